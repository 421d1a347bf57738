_base_ = './vit-t_mpvg_8xb128-300e_in1k.py'
# The Gaussian attention bias is published without a class token.
model = dict(backbone=dict(pe_delivery='default', gaussian_bias='head'))
