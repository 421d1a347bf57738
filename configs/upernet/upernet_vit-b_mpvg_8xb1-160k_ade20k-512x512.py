_base_ = './upernet_vit-t_mpvg_8xb1-160k_ade20k-512x512.py'
init_cfg = dict(checkpoint='timm://deit_base_patch16_224.fb_in1k')
model = dict(
    backbone=dict(arch='deit-base', init_cfg=init_cfg),
    neck=dict(embed_dim=768),
    decode_head=dict(in_channels=[768, 768, 768, 768]),
    auxiliary_head=dict(in_channels=768),
)
