# A short schedule from scratch, for the sample data set.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=8)
randomness = dict(seed=0)
