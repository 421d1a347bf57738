"""A config made for GPUs on a host without one."""

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from mmpvg.engine.host import check_batch_norm, fit_to_host, warn_of_batch_size

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
    assert 'batch_size=' not in caplog.text and '--auto-scale-lr' not in caplog.text


def test_one_image_without_shared_statistics_is_refused(repo):
    cfg = Config.fromfile(repo / 'configs/upernet_vit_mpvg.py')
    with pytest.raises(ValueError, match='UPerHead.*train_dataloader.batch_size=2'):
        check_batch_norm(cfg)
    cfg.train_dataloader.batch_size = 2
    check_batch_norm(cfg)
    check_batch_norm(Config.fromfile(repo / 'configs/mask_rcnn_vit_mpvg.py'))
