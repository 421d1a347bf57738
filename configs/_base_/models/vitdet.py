# ViTDet's Mask R-CNN: LayerNorm in all heads, two convolutions in the RPN, four and a linear layer
# in the box head; decomposed relative position, whose tables are for images of 1024x1024 pixels.
_base_ = './mask_rcnn_mpvg.py'
norm_cfg = dict(type='mmpvg.LayerNorm2d', eps=1e-6)
model = dict(
    # To 1024x1024, here and not in the pipeline: after a Pad there, mmdet treats the padding as
    # image and allows boxes in it.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        arch='deit-base', relative_position=dict(type='decomposed', grid=64), drop_path_rate=0.1
    ),
    neck=dict(in_channels='deit-base'),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
