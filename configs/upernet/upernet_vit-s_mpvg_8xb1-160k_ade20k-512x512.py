_base_ = './upernet_vit-t_mpvg_8xb1-160k_ade20k-512x512.py'
model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(embed_dim=384),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
