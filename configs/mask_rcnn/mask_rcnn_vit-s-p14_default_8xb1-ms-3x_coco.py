_base_ = './mask_rcnn_vit-s-p14_mpvg_8xb1-ms-3x_coco.py'
model = dict(backbone=dict(pe_delivery='default'))
