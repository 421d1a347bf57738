# COCO recipe of docs/papers.md: AdamW, lr 1e-4, wd 0.05, total batch 8, 36 epochs, steps at 27 and
# 33, 500 iterations of linear warm-up, no layer decay; no weight decay on PE, norms and biases.
train_cfg = dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=36, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale=dict(init_scale=512),
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36, milestones=[27, 33], gamma=0.1),
]
# 8 GPUs x 1 image. --auto-scale-lr scales lr to the batch of the run.
auto_scale_lr = dict(enable=False, base_batch_size=8)
