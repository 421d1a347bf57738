# The sample UPerNet on ViT-Adapter, which needs patches of 16 pixels.
_base_ = './upernet_vit_mpvg_sample.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpvg.MPVGViTAdapter',
        arch=dict(embed_dims=128, num_layers=6, num_heads=4),
        img_size=96,
        conv_channels=16,
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    neck=None,
)
