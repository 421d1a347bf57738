_base_ = './mask_rcnn_vit-adapter-t_mpvg_8xb2-1x_coco.py'
model = dict(backbone=dict(pe_delivery='pvg'))
