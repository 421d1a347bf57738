# The ADE20K model, small: patches of 8 pixels, 6 blocks.
_base_ = [
    '../_base_/models/upernet_mpvg.py',
    '../_base_/datasets/sample_semantic.py',
    '../_base_/schedules/sample_adamw.py',
    '../_base_/runtime/mmseg.py',
]
dims, channels = 128, 64
model = dict(
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=dims, num_layers=6, num_heads=4),
        img_size=96,
        patch_size=8,
        out_indices=(1, 2, 4, 5),
        drop_path_rate=0.0,
    ),
    # Strides 4, 8, 16 and 32: a patch size of 8 needs no fourfold upsampling.
    neck=dict(embed_dim=dims, rescales=[2, 1, 0.5, 0.25]),
    decode_head=dict(in_channels=[dims] * 4, channels=channels, num_classes=6),
    auxiliary_head=dict(in_channels=dims, channels=channels, num_classes=6),
    test_cfg=dict(_delete_=True, mode='whole'),
)
train_cfg = dict(type='mmpvg.IterBasedTrainLoop', max_iters=400, val_interval=200)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=400),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
