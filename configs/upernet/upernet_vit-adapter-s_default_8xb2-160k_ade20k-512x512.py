_base_ = './upernet_vit-adapter-s_mpvg_8xb2-160k_ade20k-512x512.py'
model = dict(backbone=dict(pe_delivery='default'))
