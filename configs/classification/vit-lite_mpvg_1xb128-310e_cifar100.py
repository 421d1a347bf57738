# ViT-Lite-7/4: 256 channels, 7 blocks, 4 heads, patches of 4 pixels; no stochastic depth.
_base_ = [
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_310e_adamw.py',
    '../_base_/runtime/mmpretrain.py',
]
arch = dict(_delete_=True, embed_dims=256, num_layers=7, num_heads=4, mlp_ratio=2.0)
model = dict(
    backbone=dict(arch=arch, img_size=32, patch_size=4, eps=1e-5, drop_path_rate=0.0),
    head=dict(num_classes=100, in_channels=256),
)
