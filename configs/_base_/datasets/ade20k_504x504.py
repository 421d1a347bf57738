# ADE20K for patches of 14 pixels: crops of 504x504, tested at sizes that are multiples of 28.
_base_ = './ade20k_512x512_multiple.py'
crop_size = (504, 504)
to_multiple = dict(type='ResizeToMultiple', size_divisor=28)
train_pipeline = [
    dict(step, crop_size=crop_size) if step['type'] == 'RandomCrop' else step
    for step in _base_.train_pipeline
]
test_pipeline = [*_base_.test_pipeline[:2], to_multiple, *_base_.test_pipeline[3:]]
augmentations = [_base_.augmentations[0], [to_multiple], *_base_.augmentations[2:]]
tta_pipeline = [_base_.tta_pipeline[0], dict(type='TestTimeAug', transforms=augmentations)]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
