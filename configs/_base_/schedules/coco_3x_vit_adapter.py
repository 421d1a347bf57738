# ViT-Adapter's 3x on COCO, in float32. Weight decay goes by parts of names, as in its code: on
# LayerScale, the gammas of the injectors and BatchNorm of the stem too, not on PE, level embedding,
# other norms and biases.
_base_ = './coco_3x_adamw.py'
undecayed = ('level_embed', 'position_embedding', 'norm', 'bias')
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={name: dict(decay_mult=0.0) for name in undecayed}),
)
