# Segmenter: a mask transformer of two layers on the last map of a plain ViT with global attention.
# The PE is learned on the grid of the crop, 32x32, after one bilinear resize; all LayerNorms have
# an eps of 1e-5, those of the decoder by mmcv's default.
_base_ = './upernet_mpvg.py'
# The mean over labeled pixels, as torch's cross entropy; mmseg's default divides by all pixels.
loss = dict(type='CrossEntropyLoss', use_sigmoid=False, avg_non_ignore=True, loss_weight=1.0)
model = dict(
    data_preprocessor=dict(test_cfg=dict(size_divisor=16)),
    backbone=dict(img_size=512, interpolate_mode='bilinear', eps=1e-5, out_indices=(-1,)),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='mmpvg.SegmenterMaskHead',
        in_channels=192,
        channels=192,
        num_classes=150,
        num_layers=2,
        num_heads=3,
        embed_dims=192,
        drop_path_rate=0.0,
        drop_rate=0.1,
        attn_drop_rate=0.1,
        dropout_ratio=0.0,
        loss_decode=loss,
    ),
    auxiliary_head=None,
    test_cfg=dict(stride=(512, 512)),
)
