_base_ = [
    '../_base_/models/mask_rcnn_mpvg.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/coco_3x_adamw.py',
    '../_base_/runtime/mmdet.py',
]
# Fine-tuned from DeiT, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://deit_tiny_patch16_224.fb_in1k')
model = dict(backbone=dict(init_cfg=init_cfg))
