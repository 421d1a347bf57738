# The COCO model, small: patches of 8 pixels, 6 blocks, windows of 6x6 patches.
_base_ = [
    '../_base_/models/mask_rcnn_mpvg.py',
    '../_base_/datasets/sample_instance.py',
    '../_base_/schedules/sample_adamw.py',
    '../_base_/runtime/mmdet.py',
]
channels = 64
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, embed_dims=128, num_layers=6, num_heads=4),
        img_size=128,
        patch_size=8,
        window_size=6,
        global_blocks=(2, 5),
        drop_path_rate=0.0,
    ),
    # Strides 4, 8 and 16.
    neck=dict(in_channels=128, out_channels=channels, scales=(2, 1, 0.5), num_outs=3),
    rpn_head=dict(
        in_channels=channels, feat_channels=channels, anchor_generator=dict(strides=[4, 8, 16])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels, featmap_strides=[4, 8, 16]),
        bbox_head=dict(in_channels=channels, fc_out_channels=256, num_classes=5),
        mask_roi_extractor=dict(out_channels=channels, featmap_strides=[4, 8, 16]),
        mask_head=dict(
            in_channels=channels, conv_out_channels=channels, num_convs=2, num_classes=5
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=200, max_per_img=100), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=100)),
)
train_cfg = dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=8, val_interval=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, end=8, T_max=8, eta_min=1e-5,
        convert_to_iter_based=True,
    ),
]  # fmt: skip
default_hooks = dict(logger=dict(interval=20))
