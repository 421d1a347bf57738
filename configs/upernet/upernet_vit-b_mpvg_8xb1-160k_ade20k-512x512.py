_base_ = './upernet_vit-t_mpvg_8xb1-160k_ade20k-512x512.py'
model = dict(
    backbone=dict(arch='deit-base'),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
