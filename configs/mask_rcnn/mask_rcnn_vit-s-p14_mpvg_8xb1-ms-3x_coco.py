_base_ = [
    '../_base_/models/mask_rcnn_mpvg_p14.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/coco_3x_adamw.py',
    '../_base_/runtime/mmdet.py',
]
# From DINOv2, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://vit_small_patch14_dinov2.lvd142m')
# Drop path and layer decay of ViT-Adapter's DINOv2-S.
model = dict(backbone=dict(drop_path_rate=0.2, init_cfg=init_cfg))
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
