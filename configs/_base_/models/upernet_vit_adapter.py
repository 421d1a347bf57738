# UPerNet on ViT-Adapter: global attention, no neck.
_base_ = './upernet_mpvg.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpvg.MPVGViTAdapter',
        arch='deit-tiny',
        img_size=224,
        pe_delivery='mpvg',
        drop_path_rate=0.1,
        # Each map of the ViT on one level: ViT-Adapter's segmentation network.
        vit_maps='each',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    neck=None,
)
