_base_ = './mmpretrain.py'
# The vectors of the gallery are computed before validation.
custom_hooks = [
    dict(type='mmpvg.ClassCountCheckHook'),
    dict(type='mmpvg.BrokenDataHook'),
    dict(type='mmpvg.FiniteLossHook'),
    dict(type='mmpvg.PreemptionHook'),
    dict(type='PrepareProtoBeforeValLoopHook'),
    dict(type='SyncBuffersHook'),
]
default_hooks = dict(checkpoint=dict(save_best='retrieval/mAP@10', rule='greater'))
