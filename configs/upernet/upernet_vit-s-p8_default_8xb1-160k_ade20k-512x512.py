_base_ = './upernet_vit-s-p8_mpvg_8xb1-160k_ade20k-512x512.py'
model = dict(backbone=dict(pe_delivery='default'))
