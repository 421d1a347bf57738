_base_ = './vit-lite_mpvg_1xb128-310e_cifar100.py'
# Published with a class token.
model = dict(
    backbone=dict(pe_delivery='lape', with_cls_token=True, out_type='cls_token'), neck=None
)
