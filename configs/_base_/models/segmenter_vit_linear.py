# Segmenter's linear decoder: a 1x1 convolution on the last map of a plain ViT.
_base_ = './segmenter_vit.py'
model = dict(
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=192,
        channels=192,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        init_cfg=dict(type='TruncNormal', std=0.02, override=dict(name='conv_seg')),
        loss_decode=_base_.loss,
    )
)
