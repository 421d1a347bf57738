# ADE20K, tested at sizes that are multiples of 32: as ViT-Adapter, images are resized, not padded.
_base_ = './ade20k_512x512.py'
to_multiple = dict(type='ResizeToMultiple', size_divisor=32)
test_pipeline = [*_base_.test_pipeline[:2], to_multiple, *_base_.test_pipeline[2:]]
augmentations = _base_.tta_pipeline[1]['transforms']
augmentations = [augmentations[0], [to_multiple], *augmentations[1:]]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(type='TestTimeAug', transforms=augmentations),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
