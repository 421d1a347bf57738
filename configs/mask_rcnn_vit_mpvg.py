_base_ = './mask_rcnn/mask_rcnn_vit-t_mpvg_8xb1-ms-3x_coco.py'
