_base_ = [
    '../_base_/models/mask_rcnn_mpvg_p8.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/coco_3x_adamw.py',
    '../_base_/runtime/mmdet.py',
]
# From DINO, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://vit_small_patch8_224.dino')
model = dict(backbone=dict(init_cfg=init_cfg))
