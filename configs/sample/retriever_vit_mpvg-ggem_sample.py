# The retrieval model, small: the backbone of the other samples, on digits of 32 pixels.
_base_ = [
    '../_base_/models/vit_retriever.py',
    '../_base_/datasets/digits_retrieval.py',
    '../_base_/schedules/digits_30e_adamw.py',
    '../_base_/runtime/mmpretrain_retrieval.py',
]
arch = dict(embed_dims=128, num_layers=6, num_heads=4)
model = dict(
    image_encoder=[
        dict(type='mmpvg.MPVGViT', arch=arch, img_size=32, patch_size=8, pe_delivery='mpvg'),
        dict(type='mmpvg.TokenPooling', pooling='ggem', in_channels=arch, groups='heads'),
    ],
    head=dict(num_classes=10, in_channels=128),
    prototype={{_base_.gallery_dataloader}},
)
default_hooks = dict(logger=dict(interval=10))
