# The digits as a retrieval task: half of the validation images are queries, half the gallery.
_base_ = './digits.py'
dataset = dict(
    type='InShop',
    data_root='data/digits',
    data_prefix='',
    ann_file='partition.txt',
    pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')],
)
train_dataloader = dict(
    dataset=dict(_delete_=True, **{**dataset, 'split': 'train', 'pipeline': _base_.train_pipeline})
)
val_dataloader = dict(dataset=dict(_delete_=True, split='query', **dataset))
test_dataloader = val_dataloader
gallery_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,
    collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(split='gallery', **dataset),
)
val_evaluator = [
    dict(type='RetrievalRecall', topk=1),
    dict(type='RetrievalAveragePrecision', topk=10),
]
test_evaluator = val_evaluator
