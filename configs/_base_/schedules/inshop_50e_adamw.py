# Fine-tuning for retrieval: AdamW, 50 epochs, cosine after 5 epochs of linear warm-up.
_base_ = './imagenet_300e_adamw.py'
train_cfg = dict(max_epochs=50, val_interval=1)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
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
# 8 GPUs x 32 images.
auto_scale_lr = dict(base_batch_size=256)
