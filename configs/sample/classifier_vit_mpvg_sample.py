# The ImageNet model, small: the backbone of the other samples, on digits of 32 pixels.
_base_ = [
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/digits_30e_adamw.py',
    '../_base_/runtime/mmpretrain.py',
]
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=6, num_heads=4),
        img_size=32,
        patch_size=8,
        drop_path_rate=0.0,
    ),
    head=dict(num_classes=10, in_channels=128),
    train_cfg=None,
)
default_hooks = dict(logger=dict(interval=10))
