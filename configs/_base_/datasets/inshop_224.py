# In-shop clothes retrieval (DeepFashion), 3997 items to train on.
_base_ = './imagenet_224.py'
data_root = 'data/inshop'
data_preprocessor = dict(num_classes=3997)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=256),
    dict(type='RandomCrop', crop_size=224),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=256),
    dict(type='CenterCrop', crop_size=224),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    sampler=dict(type='DefaultSampler'),
    dataset=dict(type='InShop', data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    dataset=dict(type='InShop', data_root=data_root, split='query', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
gallery_dataloader = dict(
    batch_size=32,
    num_workers=4,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='InShop', data_root=data_root, split='gallery', pipeline=test_pipeline),
)
val_evaluator = [
    dict(type='RetrievalRecall', topk=1),
    dict(type='RetrievalAveragePrecision', topk=10),
]
test_evaluator = val_evaluator
