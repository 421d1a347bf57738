# Mask R-CNN on ViT-Adapter: FPN on its pyramid, 14x14 windows with 4 global blocks.
_base_ = './mask_rcnn_mpvg.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpvg.MPVGViTAdapter',
        arch='deit-tiny',
        img_size=224,
        pe_delivery='mpvg',
        window_size=14,
        drop_path_rate=0.1,
        # The last map of the ViT on every level: ViT-Adapter's detection network.
        vit_maps='last',
        norm_cfg=dict(type='SyncBN', requires_grad=True),
    ),
    neck=dict(
        _delete_=True, type='FPN', in_channels=[192, 192, 192, 192], out_channels=256, num_outs=5
    ),
)
