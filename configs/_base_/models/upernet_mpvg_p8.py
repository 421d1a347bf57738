# UPerNet on a plain ViT with patches of 8 pixels, for DINO: rescaled to the usual strides, 4 to 32.
_base_ = './upernet_mpvg.py'
width = 384
model = dict(
    backbone=dict(arch='deit-small', patch_size=8),
    neck=dict(embed_dim=width, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[width] * 4),
    auxiliary_head=dict(in_channels=width),
)
