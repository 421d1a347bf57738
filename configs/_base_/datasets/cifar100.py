# CIFAR-100, which mmpretrain downloads. Augmentation of Compact Transformers' cifar100.yml. timm
# draws the interpolation of every operation; here it is drawn for the crop and for RandAugment.
_base_ = './imagenet_224.py'
data_root = 'data/cifar100'
# Images are RGB as they are loaded.
data_preprocessor = dict(
    num_classes=100,
    mean=[129.3105, 124.1085, 112.404],
    std=[68.2125, 65.4075, 70.4055],
    to_rgb=False,
)
crop = dict(type='RandomResizedCrop', scale=32, crop_ratio_range=(0.8, 1.0), backend='pillow')
augment = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_level=9,
    magnitude_std=0.5,
)
pad_val = [129, 124, 112]
train_pipeline = [
    dict(
        type='RandomChoice',
        transforms=[
            [dict(crop, interpolation='bilinear')],
            [dict(crop, interpolation='bicubic')],
        ],
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(augment, hparams=dict(pad_val=pad_val, interpolation='bilinear'))],
            [dict(augment, hparams=dict(pad_val=pad_val, interpolation='bicubic'))],
        ],
    ),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=data_preprocessor['mean'],
        fill_std=data_preprocessor['std'],
    ),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    num_workers=4,
    sampler=dict(type='DefaultSampler'),
    dataset=dict(type='CIFAR100', data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        type='CIFAR100', data_root=data_root, split='test', pipeline=[dict(type='PackInputs')]
    ),
)
test_dataloader = val_dataloader
