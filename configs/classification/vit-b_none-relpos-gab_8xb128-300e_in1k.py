_base_ = './vit-b_mpvg_8xb128-300e_in1k.py'
# GAB's base model, timm's vit_relpos: no PE, the norm after the pooling. Its recipe is [open].
model = dict(
    backbone=dict(
        pe_type=None, pe_delivery='none', relative_position='mlp', qkv_bias=False,
        layer_scale_init_value=1e-6, gaussian_bias='head', final_norm=False,
    ),
    neck=dict(in_channels='deit-base', norm=True),
)  # fmt: skip
