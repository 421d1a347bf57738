# A short schedule from scratch, for the digits.
_base_ = './sample_adamw.py'
optim_wrapper = dict(optimizer=dict(lr=5e-4))
train_cfg = dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=30, val_interval=5)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, end=30, T_max=30, eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
auto_scale_lr = dict(base_batch_size=64)
