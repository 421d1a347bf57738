"""The command lines of ``tools/train.py`` and ``tools/test.py``, with upstream's arguments."""

from __future__ import annotations

import argparse
import copy
import os
import os.path as osp
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count

import torch
from mmengine.config import Config, DictAction
from mmengine.model import is_model_wrapper
from mmengine.registry import MODELS, RUNNERS
from mmengine.runner import Runner

from mmpvg.checkpoints.finite_state import require_finite
from mmpvg.checkpoints.mmengine_reading import read_checkpoints_safely
from mmpvg.checkpoints.resume import agree_on_checkpoint, resume_from, resume_from_latest
from mmpvg.checkpoints.strict import strict_loading
from mmpvg.engine.config.backbone import start_backbone
from mmpvg.engine.config.config_model import read_config
from mmpvg.engine.config.data_audit import audited
from mmpvg.engine.config.host import (
    check_batch_norm,
    fit_to_host,
    leave_process_group,
    scale_learning_rate,
    warn_of_batch_size,
)
from mmpvg.engine.config.preflight import check_data_files
from mmpvg.engine.config.strides import check_segmenter_sizes, check_strides
from mmpvg.engine.hooks.preemption import Preempted
from mmpvg.engine.hooks.resume_schedule import CHOICES as RESUME_SCHEDULES
from mmpvg.engine.hooks.resume_schedule import ResumeScheduleHook
from mmpvg.utils import require_stack
from mmpvg.utils.errors import MissingFileError, UserError

from .predictions import keep_predictions, show_predictions
from .tta import use_tta

# Runs of this process.
_RUNS = count()


def train_parser() -> argparse.ArgumentParser:
    """Arguments of ``tools/train.py``."""
    parser = argparse.ArgumentParser(description='Train a detector, a segmenter or a classifier')
    _add_common_arguments(parser)
    parser.add_argument(
        '--amp', action='store_true', help='train in mixed precision (on an accelerator)'
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate from the recipe's total batch to this run's",
    )
    parser.add_argument(
        '--backbone',
        metavar='CHECKPOINT',
        help='start the backbone from any plain ViT: a file, a URL or timm://NAME '
        '(docs/checkpoints.md)',
    )
    parser.add_argument(
        '--fsdp',
        action='store_true',
        help='shard weights, gradients and optimizer state over the processes, for models that do '
        'not fit on one device (docs/long_training.md)',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from a checkpoint, or, without a value, from the latest in the work dir',
    )
    parser.add_argument(
        '--resume-schedule',
        choices=RESUME_SCHEDULES,
        help='source of learning rate, weight decay and schedule of a resumed run, when config and '
        'checkpoint differ',
    )
    parser.add_argument(
        '--no-audit',
        action='store_true',
        help='train without the audit of the data, which refuses unusable ones',
    )
    return parser


def test_parser() -> argparse.ArgumentParser:
    """Arguments of ``tools/test.py``."""
    parser = argparse.ArgumentParser(description='Test a detector, a segmenter or a classifier')
    _add_common_arguments(parser)
    parser.add_argument('checkpoint', help="checkpoint file or URL; 'none' for the untrained model")
    parser.add_argument(
        '--out',
        help='where to dump predictions: a folder (segmentation), a .pkl file (all else)',
    )
    parser.add_argument('--show', action='store_true', help='show predictions in a window')
    parser.add_argument('--show-dir', help='folder for pictures of predictions')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per shown picture')
    parser.add_argument('--tta', action='store_true', help='test with augmentations')
    return parser


def train(argv: Sequence[str] | None = None) -> Runner:
    """Run ``tools/train.py`` and return the runner.

    Raises:
        Preempted: A ``SystemExit``, when the run has saved and ends because of a signal.
        RuntimeError: If losses, gradients or weights are not finite.
        UserError: If config, checkpoint and data are missing or do not fit one another.
        UnusableDataError: If the data are not worth training on.
    """
    args = train_parser().parse_args(argv)
    cfg = _load_config(args)
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise UserError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in the config: the total '
                'batch that its learning rate was chosen for'
            )
        cfg.auto_scale_lr.enable = True
    if args.backbone is not None:
        start_backbone(cfg, args.backbone)
    if args.resume not in (None, 'auto'):
        resume_from(cfg, _existing_checkpoint(args.resume))
    elif args.resume == 'auto' or (cfg.get('resume') and not cfg.get('load_from')):
        resume_from_latest(cfg)
    elif args.resume_schedule and not cfg.get('resume'):
        raise UserError('--resume-schedule is for a run that resumes; pass --resume too')
    if args.fsdp:
        # Its import takes a while.
        from mmpvg.engine.runner.fsdp import use_fsdp

        use_fsdp(cfg)
    splits = ['train', *(['val'] if cfg.get('val_cfg') else [])]
    check_data_files(cfg, *splits)
    fit_to_host(cfg)
    runner = _build_runner(cfg)
    agree_on_checkpoint(runner)
    if runner._resume:
        read_checkpoints_safely(resumed=runner._load_from)
        # After CheckpointHook, which checks that the state is of this model and optimizer.
        runner.register_hook(ResumeScheduleHook(args.resume_schedule), 'LOWEST')
    check_batch_norm(cfg)
    model = runner.model
    if isinstance(model, dict):  # --fsdp builds it later, in parts
        with torch.random.fork_rng(devices=[]):
            model = MODELS.build(copy.deepcopy(cfg.model))
    model = model.module if is_model_wrapper(model) else model
    check_strides(model)
    check_segmenter_sizes(cfg, model)
    warn_of_batch_size(cfg)
    scale_learning_rate(runner, cfg)
    try:
        with nullcontext() if args.no_audit else audited(runner, cfg, splits):
            runner.train()
    except Preempted:
        leave_process_group()
        raise
    require_finite(runner)
    leave_process_group()
    return runner


def test(argv: Sequence[str] | None = None) -> dict:
    """Run ``tools/test.py`` and return the metrics.

    Raises:
        UserError: If config, checkpoint and data are missing or do not fit one another.
    """
    args = test_parser().parse_args(argv)
    cfg = _load_config(args)
    untrained = args.checkpoint == 'none'
    cfg.load_from = None if untrained else _existing_checkpoint(args.checkpoint)
    if args.show or args.show_dir:
        show_predictions(cfg, args.show, args.show_dir, args.wait_time)
    left_out = use_tta(cfg) if args.tta else ()
    dump = keep_predictions(cfg, args.out) if args.out else None
    check_data_files(cfg, 'test')
    fit_to_host(cfg)
    runner = _build_runner(cfg)
    if dump is not None:
        runner.test_evaluator.metrics.append(dump())
    with strict_loading(runner, args.checkpoint, left_out):
        metrics = runner.test()
    leave_process_group()
    return metrics


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and metrics')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='settings that override the config, as KEY=VALUE; a list as KEY="[a,b]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='launcher of the processes of this run',
    )
    # torch.distributed.launch passes it; torchrun sets LOCAL_RANK instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def _load_config(args: argparse.Namespace) -> Config:
    """The config with the settings that training and testing share."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', osp.splitext(osp.basename(args.config))[0])
    scope = cfg.get('default_scope')
    read_checkpoints_safely()
    require_stack(*([scope] if scope in ('mmdet', 'mmseg', 'mmpretrain') else []))
    return cfg


def _existing_checkpoint(path: str) -> str:
    # A URL or an object store path is the loader's to find.
    if '://' not in path and not osp.isfile(path):
        raise MissingFileError(f'checkpoint {path} does not exist; give a .pth file or a URL')
    return path


def _build_runner(cfg: Config) -> Runner:
    if (number := next(_RUNS)) and cfg.get('visualizer') is not None:
        # mmengine keeps visualizers by name, that of the config with the second. Of two runs of one
        # process in a second, the later would log and draw into the folder of the earlier.
        cfg.visualizer.setdefault('name', f'run_{number}_of_the_process')
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
