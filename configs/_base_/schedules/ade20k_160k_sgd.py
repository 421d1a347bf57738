# Segmenter's recipe: SGD, lr 1e-3, Nesterov momentum 0.9, no weight decay, float32, total batch 8,
# poly power 0.9 down to 1e-5 without warm-up. 160k iterations; its own 64 epochs are 161,664.
_base_ = './ade20k_160k_adamw.py'
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    constructor='mmpvg.LayerDecayOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=1e-3, momentum=0.9, nesterov=True, weight_decay=0.0),
)
param_scheduler = [
    dict(type='PolyLR', power=0.9, eta_min=1e-5, by_epoch=False, begin=0, end=160001),
]
