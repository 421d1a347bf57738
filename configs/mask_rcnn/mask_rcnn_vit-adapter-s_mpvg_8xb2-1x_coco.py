_base_ = './mask_rcnn_vit-adapter-t_mpvg_8xb2-1x_coco.py'
init_cfg = dict(checkpoint='timm://deit_small_patch16_224.fb_in1k')
model = dict(
    backbone=dict(
        arch='deit-small', layer_scale_init_value=1.0, drop_path_rate=0.2, init_cfg=init_cfg
    ),
    neck=dict(in_channels=[384, 384, 384, 384]),
)
optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
