# Image classifier on a plain ViT: average pooling, no class token, as published for MPVG.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmpvg.MPVGViT',
        arch='deit-tiny',
        img_size=224,
        patch_size=16,
        pe_delivery='mpvg',
        drop_path_rate=0.1,
    ),
    neck=dict(type='mmpvg.TokenPooling', pooling='average'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=192,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
