# Segmenter: a mask transformer of two layers on the last map of a plain ViT with global attention.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
        # See upernet_mpvg.py.
        test_cfg=dict(size_divisor=16),
    ),
    backbone=dict(
        type='mmpvg.MPVGViT',
        arch='deit-tiny',
        img_size=224,
        patch_size=16,
        pe_delivery='mpvg',
        out_indices=(-1,),
        drop_path_rate=0.1,
    ),
    decode_head=dict(
        type='SegmenterMaskTransformerHead',
        in_channels=192,
        channels=192,
        num_classes=150,
        num_layers=2,
        num_heads=3,
        embed_dims=192,
        dropout_ratio=0.0,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(480, 480)),
)
