# ViT-Lite-7/4 of Compact Transformers: 256 channels, 7 blocks, 4 heads, patches of 4 pixels.
_base_ = [
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/cifar100.py',
    '../_base_/schedules/cifar_310e_adamw.py',
    '../_base_/runtime/mmpretrain.py',
]
backbone = dict(type='mmpvg.CompactViT', pe_delivery='mpvg', attn_drop_rate=0.1, drop_path_rate=0.1)
model = dict(backbone=dict(_delete_=True, **backbone), head=dict(num_classes=100, in_channels=256))
