_base_ = './upernet_vit-s_mpvg_8xb1-160k_ade20k-512x512.py'
# The relative position of timm's vit_relpos, as GAB's base models, and no PE.
init_cfg = dict(checkpoint='timm://vit_relpos_small_patch16_224.sw_in1k')
half = [127.5, 127.5, 127.5]
model = dict(
    data_preprocessor=dict(mean=half, std=half),
    backbone=dict(
        pe_type=None, pe_delivery='none', relative_position='mlp', qkv_bias=False,
        layer_scale_init_value=1e-6, gaussian_bias='head', init_cfg=init_cfg,
    ),
)  # fmt: skip
