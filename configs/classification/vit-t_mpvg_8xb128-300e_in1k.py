_base_ = [
    '../_base_/models/vit_classifier.py',
    '../_base_/datasets/imagenet_224.py',
    '../_base_/schedules/imagenet_300e_adamw.py',
    '../_base_/runtime/mmpretrain.py',
]
