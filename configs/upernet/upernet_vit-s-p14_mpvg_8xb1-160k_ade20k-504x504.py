_base_ = [
    '../_base_/models/upernet_mpvg_p14.py',
    '../_base_/datasets/ade20k_504x504.py',
    '../_base_/schedules/ade20k_160k_adamw.py',
    '../_base_/runtime/mmseg.py',
]
# From DINOv2, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://vit_small_patch14_dinov2.lvd142m')
model = dict(backbone=dict(init_cfg=init_cfg))
