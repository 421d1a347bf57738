_base_ = './vit-t_mpvg_8xb128-300e_in1k.py'
model = dict(backbone=dict(gaussian_bias='head'))
