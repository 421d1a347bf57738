_base_ = './vit-s_mpvg_8xb128-300e_in1k.py'
model = dict(backbone=dict(pe_delivery='pvg'))
