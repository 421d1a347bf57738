"""One process of several of ``process_study.gradients_of_processes``."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmpvg.checkpoints.mmengine_reading import read_checkpoints_safely
from mmpvg.engine.config.host import end_process

Gradients = dict[str, Tensor]


def compare(config: str, data_root: str, out: str, images: Sequence[int]) -> None:
    """Compute a training step's gradients with all processes and with one, and save them.

    Args:
        config: Of a detector, segmenter or classifier on the sample data.
        data_root: Of its training data.
        out: File for what the first process found.
        images: Of each process.
    """
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    _without_batch_statistics(cfg)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    read_checkpoints_safely()
    model.init_weights()
    shards = _load(cfg, data_root, images)

    wrapped = MMDistributedDataParallel(model, device_ids=None)
    loss, ddp = _step(wrapped, _loss, pseudo_collate(shards[rank]), seed=rank)
    losses = [torch.zeros(()) for _ in images]
    dist.all_gather(losses, loss)
    found = dict(parameters=len(list(model.parameters())), losses=losses, ddp=ddp)
    if rank == 0:
        alone = [_step(model, _loss, pseudo_collate(s), seed=i)[1] for i, s in enumerate(shards)]
        found['shards'] = {
            name: torch.stack([gradients[name] for gradients in alone]).mean(0) for name in ddp
        }
        joined = pseudo_collate([sample for shard in shards for sample in shard])
        found['joined_loss'], found['joined'] = _step(model, _loss, joined, seed=0)
    if cfg.default_scope == 'mmdet':
        trunk = nn.Sequential(model.backbone, model.neck)
        maps = torch.randn(sum(images), 3, 97, 120, generator=torch.Generator().manual_seed(0))
        shard = maps.split(list(images))[rank]
        own = _step(DistributedDataParallel(trunk), _mean_of_features, shard, 0)[1]
        if rank == 0:
            found['features'] = own, _step(trunk, _mean_of_features, maps, 0)[1]
    if rank == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()
    end_process()


def _without_batch_statistics(cfg: Config) -> None:
    """Replace what makes an image's gradient depend on its batch: batch norm, and dropout's draws.

    Group norm has statistics of each image.
    """

    def walk(node: Any) -> Iterator[dict]:
        if isinstance(node, dict):
            yield node
        for child in node.values() if isinstance(node, dict) else node:
            if isinstance(child, (dict, list, tuple)):
                yield from walk(child)

    for part in walk(cfg.model):
        if (part.get('norm_cfg') or {}).get('type') in ('BN', 'SyncBN'):
            part['norm_cfg'] = dict(type='GN', num_groups=8)
        if 'dropout_ratio' in part:
            part['dropout_ratio'] = 0.0


def _load(cfg: Config, data_root: str, images: Sequence[int]) -> list[list[dict]]:
    cfg.train_dataloader.dataset.data_root = data_root
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    samples = iter([dataset[index] for index in range(sum(images))])
    return [[next(samples) for _ in range(number)] for number in images]


def _step(
    model: nn.Module, loss_of: Callable[[nn.Module, Any], Tensor], batch: Any, seed: int
) -> tuple[Tensor, Gradients]:
    """The loss and the gradients of a batch; samplers of boxes draw from the seed."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss = loss_of(model, batch)
    loss.backward()
    named = getattr(model, 'module', model).named_parameters()
    return loss.detach(), {name: p.grad.clone() for name, p in named if p.grad is not None}


def _loss(model: nn.Module, batch: Any) -> Tensor:
    inner = getattr(model, 'module', model)
    data = inner.data_preprocessor(batch, training=True)
    return inner.parse_losses(model(**data, mode='loss'))[0]


def _mean_of_features(model: nn.Module, images: Tensor) -> Tensor:
    return sum(maps.square().mean() * (i + 1) for i, maps in enumerate(model(images)))


if __name__ == '__main__':
    compare(*sys.argv[1:4], images=[int(number) for number in sys.argv[4:]])
