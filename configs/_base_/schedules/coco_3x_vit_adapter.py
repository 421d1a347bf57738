# ViT-Adapter's 3x on COCO: in float32, with weight decay by parts of names. So LayerScale, the
# injectors' gammas and the stem's BatchNorm have weight decay; PE, level embedding, other norms and
# biases have none.
_base_ = './coco_3x_adamw.py'
undecayed = ('level_embed', 'position_embedding', 'norm', 'bias')
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={name: dict(decay_mult=0.0) for name in undecayed}),
)
