_base_ = [
    '../_base_/models/segmenter_vit.py',
    '../_base_/datasets/ade20k_512x512.py',
    '../_base_/schedules/ade20k_160k_sgd.py',
    '../_base_/runtime/mmseg.py',
]
# Fine-tuned from DeiT, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://deit_tiny_patch16_224.fb_in1k')
model = dict(backbone=dict(init_cfg=init_cfg))
