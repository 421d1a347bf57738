_base_ = [
    '../_base_/models/mask_rcnn_vit_adapter.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/coco_1x_adamw.py',
    '../_base_/runtime/mmdet.py',
]
# Fine-tuned from DeiT, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://deit_tiny_patch16_224.fb_in1k')
# ViT-Adapter's settings for Ti: no LayerScale in this one of its recipes.
model = dict(backbone=dict(layer_scale_init_value=None, init_cfg=init_cfg))
train_dataloader = dict(batch_size=2)
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01))
