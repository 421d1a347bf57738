"""A run of a real mmengine Runner on a model of three weights."""

import os
from pathlib import Path

import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset


class Numbers(Dataset):
    """Items are vectors (i, i) of images named i.jpg, from the first on; some are NaN."""

    metainfo = {}

    def __init__(self, length=4, bad=(), first=0):
        self.length, self.bad, self.first = length, set(bad), first

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        index += self.first
        value = float('nan') if index in self.bad else float(index)
        sample = BaseDataElement(metainfo=dict(img_path=f'{index}.jpg'))
        return dict(inputs=torch.full((2,), value), data_samples=sample)


class Tiny(BaseModel):
    """A norm with running statistics and a linear layer, with two losses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = torch.nn.BatchNorm1d(2)
        self.layer = torch.nn.Linear(2, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        x = torch.stack(list(inputs))
        out = self.layer(self.norm(x))
        if mode != 'loss':
            return [out]
        return dict(loss_square=out.square().mean(), loss_calm=self.layer.weight.square().mean())


def build(
    work_dir,
    epochs=4,
    data=None,
    batch_size=2,
    checkpoint=None,
    hooks=(),
    kind=Runner,
    schedule=None,
    train=None,
    **wrapper,
):
    return kind(
        model=Tiny(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=batch_size,
            num_workers=0,
            dataset=data or Numbers(),
            sampler=dict(type='DefaultSampler', shuffle=False),
        ),
        train_cfg=train or dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            {'optimizer': dict(type='SGD', lr=0.1, momentum=0.9), **wrapper},
        ),
        param_scheduler=schedule,
        default_hooks=dict(
            checkpoint=dict({'type': 'mmpvg.CheckpointHook', 'interval': 1, **(checkpoint or {})})
        ),
        custom_hooks=list(hooks),
        experiment_name=f'{Path(work_dir).name}_{os.urandom(4).hex()}',
        default_scope='mmengine',
    )
