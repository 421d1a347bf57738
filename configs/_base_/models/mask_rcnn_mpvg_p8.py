# Mask R-CNN on a plain ViT with patches of 8 pixels, for DINO. Its pyramid is 2, 1 and 1/2 times as
# fine as the patches, then subsampled: the usual strides of 4 to 64.
_base_ = './mask_rcnn_mpvg.py'
model = dict(
    backbone=dict(arch='deit-small', patch_size=8),
    neck=dict(in_channels='deit-small', scales=(2, 1, 0.5)),
)
