# Mask R-CNN on a plain ViT with patches of 14 pixels, for DINOv2. Anchors and RoIAlign have the
# strides of its pyramid, which is 4, 2, 1, 1/2 and 1/4 times as fine as the patches.
_base_ = './mask_rcnn_mpvg.py'
strides = [3.5, 7, 14, 28, 56]
# Boxes below 98 pixels are pooled from the finest map, as those below 112 are at a stride of 4.
roi_extractor = dict(featmap_strides=strides[:4], finest_scale=49)
model = dict(
    data_preprocessor=dict(pad_size_divisor=28),
    backbone=dict(arch='deit-small', img_size=518, patch_size=14, layer_scale_init_value=1.0),
    neck=dict(in_channels='deit-small'),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(bbox_roi_extractor=roi_extractor, mask_roi_extractor=roi_extractor),
)
