_base_ = './mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco.py'
model = dict(backbone=dict(pe_delivery='lape'))
