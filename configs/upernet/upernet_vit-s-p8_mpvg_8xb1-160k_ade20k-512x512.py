_base_ = [
    '../_base_/models/upernet_mpvg_p8.py',
    '../_base_/datasets/ade20k_512x512_multiple.py',
    '../_base_/schedules/ade20k_160k_adamw.py',
    '../_base_/runtime/mmseg.py',
]
# From DINO, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://vit_small_patch8_224.dino')
model = dict(backbone=dict(init_cfg=init_cfg))
