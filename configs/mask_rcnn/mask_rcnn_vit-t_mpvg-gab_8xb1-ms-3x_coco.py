_base_ = './mask_rcnn_vit-t_mpvg_8xb1-ms-3x_coco.py'
# In blocks with windows, where the mask is small; global blocks keep the flash kernel.
model = dict(backbone=dict(gaussian_bias=dict(per='head', blocks='window')))
