_base_ = [
    '../_base_/models/vitdet.py',
    '../_base_/datasets/coco_instance_lsj_1024.py',
    '../_base_/schedules/coco_lsj_100e_adamw.py',
    '../_base_/runtime/mmdet.py',
]
# From MAE, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://vit_base_patch16_224.mae')
model = dict(backbone=dict(init_cfg=init_cfg))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=5000)
)
log_processor = dict(by_epoch=False)
