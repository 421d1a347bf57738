# ViTDet-B's schedule: AdamW, lr 1e-4, wd 0.1, layer decay 0.7, total batch 64, 100 epochs, which
# are 184375 iterations of 64 out of 118000 images; steps at 89 and 96 of them, 250 iterations of
# warm-up.
_base_ = './ade20k_160k_adamw.py'
train_cfg = dict(max_iters=184375, val_interval=5000)
optim_wrapper = dict(
    loss_scale='dynamic',
    paramwise_cfg=dict(layer_decay_rate=0.7),
    optimizer=dict(lr=1e-4, weight_decay=0.1),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=251),
    dict(
        type='MultiStepLR', by_epoch=False, begin=0, end=184375, milestones=[163889, 177546],
        gamma=0.1,
    ),
]  # fmt: skip
# 16 GPUs x 4 images.
auto_scale_lr = dict(base_batch_size=64)
