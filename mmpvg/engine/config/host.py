"""Adapts a config to the machine it runs on."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from mmpvg.utils.errors import UserError
from mmpvg.utils.preemption import exit_code_after_signal, ignore_signals

_SYNC_BN = ('SyncBN', 'MMSyncBN')


def check_device(device: str) -> None:
    """Check that there is such a device.

    Raises:
        ValueError: If nothing can be put on it.
    """
    try:
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:
        raise UserError(
            f'device {device!r} cannot be used: {str(error).splitlines()[0]}'
        ) from error


def fit_to_host(cfg: Config) -> None:
    """Adapt a config made for GPUs to a host without one; on an accelerator nothing changes.

    Mixed precision falls back to float32, and with a launcher the processes use gloo, and BatchNorm
    in place of SyncBN, which has no CPU kernel. Each change is logged.

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
        _log('float32 in place of mixed precision, which needs an accelerator')
    if cfg.get('launcher', 'none') == 'none':
        return
    if cfg.launcher != 'pytorch':
        raise UserError(
            f'launcher {cfg.launcher!r} needs accelerators; on this host use '
            'tools/dist_train.sh, whose launcher is pytorch'
        )
    if not dist.is_initialized():
        # mmengine's own start selects a CUDA device.
        dist.init_process_group('gloo')
    # What mmengine sets by itself on GPUs, but for the devices.
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = {**wrapper, **(cfg.get('model_wrapper_cfg') or {}), 'device_ids': None}
    if _replace_sync_bn(cfg.model):
        _log(
            'SyncBN replaced by BN: it has no CPU kernel, so each process has statistics of its own'
        )


def leave_process_group() -> None:
    """End the process group of a finished run; a gloo process that exits without it may abort."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def end_process(code: int = 0) -> None:
    """Exit; on a CPU-only host without destructors, in which a gloo process may abort.

    Args:
        code: Exit code; 0 for a finished run, another for one that ended at a signal or an error.
    """
    ignore_signals()
    if code:
        code = exit_code_after_signal(code)
    if int(os.environ.get('WORLD_SIZE', '1')) > 1 and get_device() == 'cpu':
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def check_batch_norm(cfg: Config) -> None:
    """Refuse a batch of one image where a pyramid pooling module (UPerNet, PSPNet) has BatchNorm.

    It pools to one pixel, so that BatchNorm has a single value to normalize.

    Args:
        cfg: The config of the run, whose process group is there.

    Raises:
        ValueError: If such a head is given one image.
    """
    heads = cfg.model.get('decode_head', [])
    for head in heads if isinstance(heads, (list, tuple)) else [heads]:
        norm = (head.get('norm_cfg') or {}).get('type')
        if 1 not in head.get('pool_scales', ()) or norm not in ('BN', *_SYNC_BN):
            continue
        batch = cfg.train_dataloader.batch_size
        if batch * (_world_size() if norm in _SYNC_BN else 1) == 1:
            raise UserError(
                f'{head.type} pools to one pixel and normalizes it over the batch, which needs two '
                'images at least, but each process has one and statistics are not shared; pass '
                '--cfg-options train_dataloader.batch_size=2 or more'
            )


def warn_of_batch_size(cfg: Config) -> None:
    """Warn if the total batch of a run is not the one of its recipe's learning rate."""
    scaling = cfg.get('auto_scale_lr') or {}
    base = scaling.get('base_batch_size')
    if base is None or scaling.get('enable', False):
        return
    total, product = _total_batch(cfg)
    if total == base:
        return
    fixes = ['pass --auto-scale-lr']
    others = total // cfg.train_dataloader.batch_size
    if base % others == 0:
        fixes.append(f'--cfg-options train_dataloader.batch_size={base // others}')
    _log(
        f'total batch {product}, but the learning rate is for {base}: {" or ".join(fixes)}',
        level=logging.WARNING,
    )


def scale_learning_rate(runner: Any, cfg: Config) -> None:
    """Scale the learning rate linearly from the recipe's total batch to this run's.

    The rule of `Goyal et al. <https://arxiv.org/abs/1706.02677>`_. mmengine's own scaling
    (``auto_scale_lr.enable``) leaves out accumulated batches; it is switched off.

    Args:
        runner: Just built, its optimizer not yet.
        cfg: Its config.

    Raises:
        ValueError: If there is no learning rate of one optimizer to scale.
    """
    scaling = cfg.get('auto_scale_lr') or {}
    if not scaling.get('enable', False):
        return
    optimizer = runner.optim_wrapper.get('optimizer') or {}
    if 'lr' not in optimizer:
        raise UserError(
            '--auto-scale-lr scales optim_wrapper.optimizer.lr, which the config does not set'
        )
    (total, product), base = _total_batch(cfg), scaling['base_batch_size']
    scaled = optimizer['lr'] * total / base
    _log(
        f'learning rate {scaled:.6g} for a total batch of {product}: {optimizer["lr"]:.6g} is for '
        f'{base}'
    )
    runner.optim_wrapper = {**runner.optim_wrapper, 'optimizer': {**optimizer, 'lr': scaled}}
    if hasattr(runner, 'strategy'):
        # FlexibleRunner's.
        runner.strategy._auto_scale_lr = None
    else:
        runner.auto_scale_lr = None


def _total_batch(cfg: Config) -> tuple[int, str]:
    """Images of an optimizer step, as a number and with its factors."""
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    world, per_process = _world_size(), cfg.train_dataloader.batch_size
    total = world * per_process * accumulated
    steps = f' x {accumulated} accumulated' if accumulated > 1 else ''
    processes = f'{world} process{"es" if world > 1 else ""}'
    return total, f'{total} ({processes} x {per_process} images{steps})'


def _world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _replace_sync_bn(node: Any) -> bool:
    """Turn every ``type='SyncBN'`` below a config node into BN; return whether there was one."""
    if isinstance(node, dict):
        found = node.get('type') in _SYNC_BN
        if found:
            node['type'] = 'BN'
        return any([found, *(_replace_sync_bn(value) for value in node.values())])
    if isinstance(node, (list, tuple)):
        return any([_replace_sync_bn(value) for value in node])
    return False


def _log(message: str, level: int = logging.INFO) -> None:
    if not dist.is_initialized() or dist.get_rank() == 0:
        print_log(f'mmpvg: {message}', logger='current', level=level)
