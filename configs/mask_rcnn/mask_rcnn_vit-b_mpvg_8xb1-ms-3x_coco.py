_base_ = './mask_rcnn_vit-t_mpvg_8xb1-ms-3x_coco.py'
init_cfg = dict(checkpoint='timm://deit_base_patch16_224.fb_in1k')
model = dict(backbone=dict(arch='deit-base', init_cfg=init_cfg), neck=dict(in_channels='deit-base'))
