_base_ = [
    '../_base_/models/cascade_mask_rcnn_vit_adapter.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/coco_3x_vit_adapter.py',
    '../_base_/runtime/mmdet.py',
]
# Fine-tuned from DeiT, which has no PE LayerNorms: they start at zero.
init_cfg = dict(type='mmpvg.PretrainedViT', checkpoint='timm://deit_small_patch16_224.fb_in1k')
backbone = dict(arch='deit-small', drop_path_rate=0.2, init_cfg=init_cfg)
model = dict(backbone=backbone, neck=dict(in_channels=[384, 384, 384, 384]))
# ViT-Adapter's: 8 GPUs x 2 images, in mixed precision unlike its Mask R-CNN.
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale=dict(init_scale=512))
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
