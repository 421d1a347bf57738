# ViT-Lite recipe of docs/papers.md: AdamW, lr 6e-4, wd 0.06, batch 128, 300 + 10 epochs, 10 of
# warm-up from 1e-6.
_base_ = './imagenet_300e_adamw.py'
train_cfg = dict(max_epochs=310)
optim_wrapper = dict(optimizer=dict(lr=6e-4, weight_decay=0.06))
# The 10 epochs after the cosine stay at its end.
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-6 / 6e-4, by_epoch=True, begin=0, end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', T_max=290, eta_min=1e-5, by_epoch=True, begin=10, end=300,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
auto_scale_lr = dict(base_batch_size=128)
