"""The parts of a training iteration: all of its time, each in its place."""

import time

import pytest
import torch
from mmengine.config import Config
from torch import nn

from benchmarks.speed.iteration_split import PARTS as ITERATION_PARTS
from benchmarks.speed.iteration_split import split_iteration
from mmpvg.engine.config.config_model import build_config_model


class Slow(nn.Module):
    """Sleeps in the forward and in the backward pass."""

    def __init__(self, forward, backward):
        super().__init__()
        self.times = forward, backward

    def forward(self, x):
        forward, backward = self.times

        class Sleep(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                time.sleep(forward)
                return x.clone()

            @staticmethod
            def backward(ctx, gradient):
                time.sleep(backward)
                return gradient

        return Sleep.apply(x)


@pytest.mark.parametrize('name', ['upernet_vit', 'mask_rcnn_vit'])
def test_each_part_gets_its_time(repo, sample_data, name):
    """What sleeps in a part takes its time there at least, however busy the machine is."""
    cfg, model = build_config_model(
        str(repo / f'configs/sample/{name}_mpvg_sample.py'),
        {
            'train_dataloader.dataset.data_root': f'{sample_data}/',
            'train_dataloader.batch_size': 2,
        },
    )
    block = model.backbone.blocks[0]
    block.mlp = nn.Sequential(Slow(0.2, 0.5), block.mlp)
    slow, run_neck = Slow(0.3, 0.7), model.neck.forward
    model.neck.forward = lambda maps: run_neck([slow(m) for m in maps[:1]] + list(maps[1:]))
    times = split_iteration(cfg, model, rounds=1, warmup=0)
    assert tuple(times) == ITERATION_PARTS
    found = {part: timing.median for part, timing in times.items()}
    assert found['backbone, forward'] > 0.2 and found['backbone, backward'] > 0.5
    assert found['neck and heads, forward'] > 0.3 and found['neck and heads, backward'] > 0.7
    assert found['data loading'] > 0 < found['optimizer']


def test_a_model_without_a_backbone(repo):
    with pytest.raises(ValueError, match='Linear has no backbone'):
        split_iteration(Config({}), nn.Linear(1, 1), rounds=1)
