# ViT-Adapter's 1x on COCO: 12 epochs, steps at 8 and 11, total batch 16.
_base_ = './coco_3x_vit_adapter.py'
train_cfg = dict(max_epochs=12)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=12, milestones=[8, 11], gamma=0.1),
]
# 8 GPUs x 2 images.
auto_scale_lr = dict(base_batch_size=16)
