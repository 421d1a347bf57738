# ViT-Lite recipe of papers.md: AdamW, lr 6e-4, wd 0.06, batch 128, 300 + 10 epochs, 10 of warm-up.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=310, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=6e-4, betas=(0.9, 0.999), weight_decay=0.06),
)
# The 10 epochs after the cosine stay at its end.
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=10,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', T_max=290, eta_min=1e-5, by_epoch=True, begin=10, end=300,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
# --auto-scale-lr scales lr to the batch of the run.
auto_scale_lr = dict(enable=False, base_batch_size=128)
