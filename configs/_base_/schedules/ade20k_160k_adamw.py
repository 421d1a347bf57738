# ADE20K recipe of docs/papers.md: AdamW, lr 12e-5, wd 0.01, layer decay 0.95, total batch 8, 160k
# iterations, poly power 1.0 from the first one, multiplied by 1500 iterations of linear warm-up.
train_cfg = dict(type='mmpvg.IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale=dict(init_scale=512),
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.95),
    optimizer=dict(type='AdamW', lr=12e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
param_scheduler = [
    # mmengine makes end - begin - 1 steps: the warm-up of 1500 and the poly of 160000 iterations of
    # mmcv 1.x end at 1501 and 160001.
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=0, end=160001),
]
# 8 GPUs x 1 image. --auto-scale-lr scales lr to the batch of the run.
auto_scale_lr = dict(enable=False, base_batch_size=8)
