"""A config made for GPUs on a host without one."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import FlexibleRunner, Runner

from mmpvg.engine.config.host import (
    check_batch_norm,
    fit_to_host,
    scale_learning_rate,
    warn_of_batch_size,
)

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason='describes what happens on a host without an accelerator'
)


def test_mixed_precision_falls_back(repo):
    cfg = Config.fromfile(repo / 'configs/mask_rcnn_vit_mpvg.py')
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    fit_to_host(cfg)
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    assert cfg.optim_wrapper.optimizer.lr == 1e-4


def test_slurm_needs_accelerators(repo):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    cfg.launcher = 'slurm'
    with pytest.raises(ValueError, match="'slurm'.*dist_train.sh"):
        fit_to_host(cfg)


@pytest.mark.parametrize(
    ('batch', 'accumulated', 'warns'), [(8, 1, False), (2, 4, False), (1, 1, True)]
)
def test_the_total_batch_is_held_against_the_recipe(repo, caplog, batch, accumulated, warns):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.accumulative_counts = accumulated
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        warn_of_batch_size(cfg)
    finally:
        logger.removeHandler(caplog.handler)
    assert ('train_dataloader.batch_size=8' in caplog.text) == warns


def test_advice_is_given_only_where_it_helps(repo, caplog):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    cfg.auto_scale_lr.base_batch_size = 9
    cfg.optim_wrapper.accumulative_counts = 2
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        warn_of_batch_size(cfg)
        cfg.auto_scale_lr = dict(enable=False)
        warn_of_batch_size(cfg)
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.text.count('is for 9') == 1
    assert 'batch_size=' not in caplog.text and 'pass --auto-scale-lr' in caplog.text


@pytest.mark.parametrize('kind', [Runner, FlexibleRunner])
@pytest.mark.parametrize(
    ('batch', 'accumulated', 'ratio'), [(8, 1, 1), (2, 4, 1), (2, 1, 0.25), (4, 4, 2)]
)
def test_the_scaled_learning_rate_is_of_the_whole_step(
    tiny_run, tmp_path, kind, batch, accumulated, ratio
):
    """Four batches accumulated are a step of four times the images."""
    runner = tiny_run(
        tmp_path, epochs=1, batch_size=batch, kind=kind, accumulative_counts=accumulated,
        paramwise_cfg=dict(custom_keys={'norm': dict(lr_mult=0.5)}),
    )  # fmt: skip
    cfg = Config(
        dict(
            train_dataloader=dict(batch_size=batch),
            optim_wrapper=dict(accumulative_counts=accumulated),
            auto_scale_lr=dict(enable=True, base_batch_size=8),
        )
    )
    if kind is Runner:
        runner.auto_scale_lr = cfg.auto_scale_lr
    else:
        runner.strategy._auto_scale_lr = cfg.auto_scale_lr
    scale_learning_rate(runner, cfg)
    runner.train()
    rates = {group['lr'] for group in runner.optim_wrapper.optimizer.param_groups}
    assert rates == {0.1 * ratio, 0.1 * ratio * 0.5}


def test_a_scaled_learning_rate_must_be_set():
    cfg = Config(dict(auto_scale_lr=dict(enable=True, base_batch_size=8)))
    runner = SimpleNamespace(optim_wrapper=dict(optimizer=dict(type='SGD')))
    with pytest.raises(ValueError, match='scales optim_wrapper.optimizer.lr'):
        scale_learning_rate(runner, cfg)


def test_one_image_without_shared_statistics_is_refused(repo):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    with pytest.raises(ValueError, match='UPerHead.*train_dataloader.batch_size=2'):
        check_batch_norm(cfg)
    cfg.train_dataloader.batch_size = 2
    check_batch_norm(cfg)
    check_batch_norm(Config.fromfile(repo / 'configs/mask_rcnn_vit_mpvg.py'))
