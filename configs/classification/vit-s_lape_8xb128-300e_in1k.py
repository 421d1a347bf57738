_base_ = './vit-s_mpvg_8xb128-300e_in1k.py'
# Published with a class token.
model = dict(
    backbone=dict(pe_delivery='lape', with_cls_token=True, out_type='cls_token'), neck=None
)
