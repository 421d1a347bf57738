"""One of two gloo processes that train a small segmenter with FSDP and without, in turn."""

import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import FlexibleRunner, Runner
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mmpvg.engine.config.host import end_process
from mmpvg.engine.hooks.preemption import Preempted
from mmpvg.models import MPVGViT


class Images(Dataset):
    metainfo = {}

    def __len__(self):
        return 40

    def __getitem__(self, index):
        image = torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(index))
        return dict(
            inputs=image + torch.randn(1),
            data_samples=BaseDataElement(metainfo=dict(img_path=f'{index}.jpg')),
        )


class Segmenter(BaseModel):
    """A backbone by blocks, and a head and a buffer outside them."""

    def __init__(self):
        super().__init__()
        arch = dict(embed_dims=32, num_layers=3, num_heads=2)
        self.backbone = MPVGViT(
            arch, img_size=32, patch_size=8, drop_path_rate=0.5, gaussian_bias='head', with_cp=True
        )
        self.bad_gradient = False
        self.norm = nn.BatchNorm2d(32)
        self.head = nn.Conv2d(32, 3, 1)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        images = torch.stack(list(inputs))
        # Statistics are each process's own, so they are not compared.
        maps = self.head(self.norm.eval()(self.backbone(images)[0]))
        target = nn.functional.adaptive_avg_pool2d(images, maps.shape[-2:])
        if mode != 'loss':
            return [maps]
        loss = (maps - target).square().mean()
        # The derivative of the root is infinite, times 0.
        return dict(loss_pixels=loss + (0 * loss).sqrt() if self.bad_gradient else loss)


class Disturb(Hook):
    """In an iteration, in one process: a bad image, a bad gradient, or a signal."""

    def __init__(self, nan=None, gradient=None, signaled=None):
        self.nan, self.gradient, self.signaled = nan, gradient, signaled

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        model = runner.model.module
        model.bad_gradient = dist.get_rank() == 1 and runner.iter + 1 == self.gradient
        if dist.get_rank() == 1 and runner.iter + 1 == self.nan:
            data_batch['inputs'][0].fill_(float('nan'))
        if dist.get_rank() == 1 and runner.iter + 1 == self.signaled:
            os.kill(os.getpid(), signal.SIGTERM)


def train(folder, fsdp, optimizer='AdamW', resume=None, hook=None, **wrapper):
    torch.manual_seed(0)
    how = dict(strategy=dict(type='mmpvg.FSDPStrategy')) if fsdp else {}
    runner = (FlexibleRunner if fsdp else Runner)(
        model=Segmenter(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2,
            num_workers=0,
            num_batch_per_epoch=6,
            dataset=Images(),
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        train_cfg=dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=1),
        optim_wrapper=dict(
            constructor='mmpvg.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.7),
            optimizer=dict(type=optimizer, lr=0.01, weight_decay=1.0),
            # Far below the norms there are, which the processes do not have in equal parts.
            clip_grad=dict(max_norm=0.1),
            **wrapper,
        ),
        param_scheduler=dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False),
        default_hooks=dict(
            checkpoint=dict(type='mmpvg.CheckpointHook', interval=3, by_epoch=False)
        ),
        custom_hooks=[
            hook or Disturb(),
            dict(type='mmpvg.FiniteLossHook'),
            dict(type='mmpvg.PreemptionHook', interval=1),
        ],
        load_from=resume and str(resume),
        resume=resume is not None,
        launcher='pytorch',
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        randomness=dict(seed=0),
        default_scope='mmengine',
        experiment_name=str(folder).replace('/', '_'),
        cfg=dict(
            model_wrapper_cfg=dict(
                type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False
            )
        ),
        **how,
    )
    runner.train()


def main(out):
    # mmengine's own launcher selects a CUDA device.
    dist.init_process_group('gloo')
    for optimizer in ('AdamW', 'SGD'):
        train(out / f'ddp_{optimizer}', False, optimizer)
        train(out / f'fsdp_{optimizer}', True, optimizer)
    half = 'iter_3.pth'
    train(out / 'fsdp_fsdp', True, resume=out / 'fsdp_AdamW' / half)
    train(out / 'fsdp_ddp', False, resume=out / 'fsdp_AdamW' / half)
    train(out / 'ddp_fsdp', True, resume=out / 'ddp_AdamW' / half)
    for name, fsdp in (('ddp', False), ('fsdp', True)):
        train(out / f'{name}_nan', fsdp, 'SGD', hook=Disturb(nan=2))
        train(out / f'{name}_gradient', fsdp, 'SGD', hook=Disturb(gradient=2))
        train(out / f'{name}_accumulated', fsdp, 'SGD', accumulative_counts=3)
    try:
        train(out / 'signaled', True, hook=Disturb(signaled=4))
    except Preempted as preempted:
        assert preempted.code == 75
    train(out / 'signaled', True, resume=out / 'signaled/preempted.pth')
    dist.barrier()
    dist.destroy_process_group()
    end_process()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
