# UPerNet on a plain ViT with patches of 14 pixels, for DINOv2: strides of 3.5, 7, 14 and 28. So
# crops and tested images are multiples of 28.
_base_ = './upernet_mpvg.py'
width = 384
model = dict(
    data_preprocessor=dict(size=(504, 504), test_cfg=dict(size_divisor=28)),
    backbone=dict(arch='deit-small', img_size=518, patch_size=14, layer_scale_init_value=1.0),
    neck=dict(embed_dim=width),
    decode_head=dict(in_channels=[width] * 4),
    auxiliary_head=dict(in_channels=width),
    test_cfg=dict(crop_size=(504, 504), stride=(336, 336)),
)
