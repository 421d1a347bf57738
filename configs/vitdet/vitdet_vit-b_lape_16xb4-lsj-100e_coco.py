_base_ = './vitdet_vit-b_mpvg_16xb4-lsj-100e_coco.py'
model = dict(backbone=dict(pe_delivery='lape', final_norm=False))
