"""Fitting a config to the machine it runs on."""

from __future__ import annotations

import logging
from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log


def fit_to_host(cfg: Config) -> None:
    """Let a config made for GPUs run where there is none; on an accelerator nothing changes.

    Mixed precision falls back to float32, and with a launcher the processes talk through gloo,
    with BatchNorm in place of SyncBN, which has no CPU kernel. Each change is logged.

    mmengine would fail on a CPU-only host in all three places.

    Args:
        cfg: The config of the run, changed in place.

    Raises:
        ValueError: If the launcher is not ``pytorch`` on a host without an accelerator.
    """
    if get_device() != 'cpu':
        return
    wrapper = cfg.get('optim_wrapper')
    if wrapper is not None and wrapper.get('type') == 'AmpOptimWrapper':
        wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            wrapper.pop(key, None)
        _log('training in float32: mixed precision needs an accelerator')
    if cfg.get('launcher', 'none') == 'none':
        return
    if cfg.launcher != 'pytorch':
        raise ValueError(
            f'launcher {cfg.launcher!r} needs accelerators; on this host use '
            'tools/dist_train.sh, whose launcher is pytorch'
        )
    if not dist.is_initialized():
        # mmengine's own start selects a CUDA device.
        dist.init_process_group('gloo')
    cfg.model_wrapper_cfg = dict(
        {'type': 'MMDistributedDataParallel', **(cfg.get('model_wrapper_cfg') or {})},
        device_ids=None,
    )
    if _replace_sync_bn(cfg.model):
        _log(
            'SyncBN replaced by BN: it has no CPU kernel, so each process has statistics of its own'
        )


def leave_process_group() -> None:
    """End the process group of a finished run; a gloo process that exits without it may abort."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def warn_of_batch_size(cfg: Config) -> None:
    """Say so when a run's total batch is not the one that its recipe's learning rate is for."""
    scaling = cfg.get('auto_scale_lr')
    if scaling is None or scaling.get('enable', False):
        return
    world = dist.get_world_size() if dist.is_initialized() else 1
    per_process, base = cfg.train_dataloader.batch_size, scaling.base_batch_size
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    if world * per_process * accumulated != base:
        steps = f' x {accumulated} accumulated' if accumulated > 1 else ''
        _log(
            f'total batch {world} processes x {per_process}{steps}, but the learning rate is for '
            f'{base}: pass --auto-scale-lr, or --cfg-options '
            f'train_dataloader.batch_size={max(base // world, 1)}',
            level=logging.WARNING,
        )


def _replace_sync_bn(node: Any) -> bool:
    """Turn every ``type='SyncBN'`` below a config node into BN; tell whether there was one."""
    if isinstance(node, dict):
        found = node.get('type') in ('SyncBN', 'MMSyncBN')
        if found:
            node['type'] = 'BN'
        return any([found, *(_replace_sync_bn(value) for value in node.values())])
    if isinstance(node, (list, tuple)):
        return any([_replace_sync_bn(value) for value in node])
    return False


def _log(message: str, level: int = logging.INFO) -> None:
    if not dist.is_initialized() or dist.get_rank() == 0:
        print_log(f'mmpvg: {message}', logger='current', level=level)
