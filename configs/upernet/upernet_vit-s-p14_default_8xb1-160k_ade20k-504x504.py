_base_ = './upernet_vit-s-p14_mpvg_8xb1-160k_ade20k-504x504.py'
model = dict(backbone=dict(pe_delivery='default'))
