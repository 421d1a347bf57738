_base_ = './upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512.py'
init_cfg = dict(checkpoint='timm://deit_small_patch16_224.fb_in1k')
model = dict(
    backbone=dict(arch='deit-small', drop_path_rate=0.2, init_cfg=init_cfg),
    decode_head=dict(in_channels=[384, 384, 384, 384]),
    auxiliary_head=dict(in_channels=384),
)
# ViT-Adapter's settings for S: 8 GPUs x 2 images.
optim_wrapper = dict(optimizer=dict(lr=6e-5))
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=16)
