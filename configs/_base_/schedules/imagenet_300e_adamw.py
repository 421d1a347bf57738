# ImageNet recipe of docs/papers.md, which is DeiT's: AdamW, lr 5e-4 for every 512 images of a
# batch, so 1e-3 at batch 1024, wd 0.05, 300 epochs, cosine after 5 epochs of linear warm-up from
# 1e-6; no weight decay on PE, norms, biases and class token.
train_cfg = dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=300, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=5,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR', T_max=295, eta_min=1e-5, by_epoch=True, begin=5, end=300,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
# 8 GPUs x 128 images. --auto-scale-lr scales lr to the batch of the run.
auto_scale_lr = dict(enable=False, base_batch_size=1024)
