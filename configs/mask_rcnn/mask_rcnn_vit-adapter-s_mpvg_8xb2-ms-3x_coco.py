_base_ = './mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco.py'
init_cfg = dict(checkpoint='timm://deit_small_patch16_224.fb_in1k')
model = dict(
    backbone=dict(arch='deit-small', drop_path_rate=0.2, init_cfg=init_cfg),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
# ViT-Adapter's: 8 GPUs x 2 images.
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
