_base_ = './vit-lite_mpvg_1xb128-310e_cifar100.py'
model = dict(backbone=dict(pe_delivery='pvg'))
