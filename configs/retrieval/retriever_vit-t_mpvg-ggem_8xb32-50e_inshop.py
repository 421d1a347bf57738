_base_ = [
    '../_base_/models/vit_retriever.py',
    '../_base_/datasets/inshop_224.py',
    '../_base_/schedules/inshop_50e_adamw.py',
    '../_base_/runtime/mmpretrain_retrieval.py',
]
model = dict(prototype={{_base_.gallery_dataloader}})
