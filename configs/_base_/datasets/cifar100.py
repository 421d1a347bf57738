# CIFAR-100, which mmpretrain downloads. Augmentation as for ImageNet.
_base_ = './imagenet_224.py'
data_root = 'data/cifar100'
# Images are RGB as they are loaded.
data_preprocessor = dict(
    num_classes=100, mean=[129.304, 124.070, 112.434], std=[68.170, 65.392, 70.418], to_rgb=False
)
train_pipeline = [
    dict(type='RandomCrop', crop_size=32, padding=4),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[129, 124, 112], interpolation='bicubic'),
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
