# The sample Mask R-CNN on ViT-Adapter, which needs patches of 16 pixels.
_base_ = './mask_rcnn_vit_mpvg_sample.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpvg.MPVGViTAdapter',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4),
        img_size=128,
        window_size=4,
        vit_maps='last',
        conv_channels=16,
        norm_cfg=dict(type='BN'),
    ),
    neck=dict(_delete_=True, type='FPN', in_channels=[128] * 4, out_channels=64, num_outs=4),
    rpn_head=dict(anchor_generator=dict(strides=[4, 8, 16, 32])),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=[4, 8, 16]),
        mask_roi_extractor=dict(featmap_strides=[4, 8, 16]),
    ),
)
