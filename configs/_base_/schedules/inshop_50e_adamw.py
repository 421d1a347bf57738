# Fine-tuning for retrieval: AdamW, 50 epochs, cosine after 5 epochs of linear warm-up.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=50, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=0.01, by_epoch=True, begin=0, end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', T_max=45, by_epoch=True, begin=5, end=50,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
# 8 GPUs x 32 images. --auto-scale-lr scales lr to the batch of the run.
auto_scale_lr = dict(enable=False, base_batch_size=256)
