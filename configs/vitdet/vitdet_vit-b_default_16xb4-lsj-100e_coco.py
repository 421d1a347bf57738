_base_ = './vitdet_vit-b_mpvg_16xb4-lsj-100e_coco.py'
# ViTDet, which has no last LayerNorm.
model = dict(backbone=dict(pe_delivery='default', final_norm=False))
