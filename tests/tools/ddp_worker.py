"""One process of two: gradients of a training step, against one process on the same images.

Writes, from rank 0, the gradients of the wrapped model (``ddp``), the mean of the gradients that
one process computes on each shard (``shards``: what DistributedDataParallel promises for any loss),
and those of one process on the joined batch (``joined``: equal too where the loss is a mean over a
fixed number of terms, as a segmenter's). A detector divides by the positives sampled in its shard,
so its backbone and neck are compared a second time under such a mean (``features``).
"""

import sys

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmpvg.engine.host import end_process

SHARD = 2


def gradients(model, loss_of, batch, seed):
    model.zero_grad()
    torch.manual_seed(seed)
    loss_of(model, batch).backward()
    inner = model.module if hasattr(model, 'module') else model
    return {n: p.grad.clone() for n, p in inner.named_parameters() if p.grad is not None}


def loss_of(model, batch):
    inner = model.module if hasattr(model, 'module') else model
    data = inner.data_preprocessor(batch, training=True)
    losses = model(**data, mode='loss')
    return inner.parse_losses(losses)[0]


def mean_of_features(model, images):
    return sum(m.square().mean() * (i + 1) for i, m in enumerate(model(images)))


def main(config, data_root, out):
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    if cfg.default_scope == 'mmseg':
        # Batch statistics are each process's own; group statistics are each image's.
        group_norm = dict(type='GN', num_groups=8)
        for part in (cfg.model.neck, cfg.model.decode_head, cfg.model.auxiliary_head):
            part.norm_cfg = group_norm
        # Dropout would draw other noise in another batch.
        cfg.model.decode_head.dropout_ratio = cfg.model.auxiliary_head.dropout_ratio = 0.0
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    cfg.train_dataloader.dataset.data_root = data_root
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    torch.manual_seed(0)
    import numpy as np

    np.random.seed(0)
    samples = [dataset[index] for index in range(2 * SHARD)]
    shards = [pseudo_collate(samples[:SHARD]), pseudo_collate(samples[SHARD:])]

    wrapped = MMDistributedDataParallel(model, device_ids=None)
    ddp = gradients(wrapped, loss_of, shards[rank], seed=rank)
    if rank == 0:
        alone = [gradients(model, loss_of, shard, seed=i) for i, shard in enumerate(shards)]
        mean = {name: (alone[0][name] + alone[1][name]) / 2 for name in alone[0]}
        joined = gradients(model, loss_of, pseudo_collate(samples), seed=0)
        count = len(list(model.parameters()))
        found = dict(ddp=ddp, shards=mean, joined=joined, parameters=count)
    if cfg.default_scope == 'mmdet':
        trunk = torch.nn.Sequential(model.backbone, model.neck)
        images = torch.randn(2 * SHARD, 3, 97, 120, generator=torch.Generator().manual_seed(0))
        wrapped = torch.nn.parallel.DistributedDataParallel(trunk)
        shard = gradients(wrapped, mean_of_features, images[rank * SHARD : (rank + 1) * SHARD], 0)
        if rank == 0:
            found['features'] = (shard, gradients(trunk, mean_of_features, images, 0))
    if rank == 0:
        torch.save(found, out)
    dist.barrier()
    dist.destroy_process_group()
    end_process()


if __name__ == '__main__':
    main(*sys.argv[1:])
