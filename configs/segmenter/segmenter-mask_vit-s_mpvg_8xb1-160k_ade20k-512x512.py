_base_ = './segmenter-mask_vit-t_mpvg_8xb1-160k_ade20k-512x512.py'
init_cfg = dict(checkpoint='timm://deit_small_patch16_224.fb_in1k')
model = dict(
    backbone=dict(arch='deit-small', init_cfg=init_cfg),
    decode_head=dict(in_channels=384, channels=384, num_heads=6, embed_dims=384),
)
