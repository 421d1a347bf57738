# Image retrieval: a plain ViT with GGeM pooling, fine-tuned from DeiT with ArcFace.
model = dict(
    type='ImageToImageRetriever',
    image_encoder=[
        dict(
            type='mmpvg.MPVGViT',
            arch='deit-tiny',
            img_size=224,
            patch_size=16,
            pe_delivery='mpvg',
            drop_path_rate=0.1,
            init_cfg=dict(
                type='mmpvg.PretrainedViT', checkpoint='timm://deit_tiny_patch16_224.fb_in1k'
            ),
        ),
        dict(type='mmpvg.TokenPooling', pooling='ggem', in_channels='deit-tiny', groups='heads'),
    ],
    head=dict(
        type='ArcFaceClsHead',
        num_classes=3997,
        in_channels=192,
        loss=dict(type='CrossEntropyLoss', loss_weight=1.0),
        init_cfg=None,
    ),
)
