"""What the tests of the tools share: a sample config of each task on small sample data."""

import dataclasses
from pathlib import Path

import pytest


@dataclasses.dataclass(frozen=True)
class Task:
    """A sample config, cut to a few iterations by command-line options alone."""

    name: str
    config: str
    steps: str
    options: tuple
    owner: str
    metrics: tuple
    # The learning rate of the config, and the share of its batch that the options leave.
    lr: float = 1e-3
    batch_share: float = 0.5
    num_val_images: int = 4


TASKS = (
    Task(
        'detection',
        'configs/sample/mask_rcnn_vit_mpvg_sample.py',
        'epoch',
        ('train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=4'),
        'mmdet',
        ('coco/bbox_mAP', 'coco/segm_mAP'),
    ),
    Task(
        'segmentation',
        'configs/sample/upernet_vit_mpvg_sample.py',
        'iter',
        (
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.checkpoint.interval=1',
            'train_dataloader.batch_size=4',
        ),
        'mmseg',
        ('mIoU', 'aAcc'),
    ),
    Task(
        'classification',
        'configs/sample/classifier_vit_mpvg-ggem_sample.py',
        'epoch',
        ('train_cfg.max_epochs=2', 'train_cfg.val_interval=2', 'train_dataloader.batch_size=32'),
        'mmpretrain',
        ('accuracy/top1',),
        lr=5e-4,
        num_val_images=10,
    ),
)


@pytest.fixture(params=TASKS, ids=lambda task: task.name, scope='session')
def task(request) -> Task:
    return request.param


@pytest.fixture(scope='session')
def data_root(task, sample_data, digits_data) -> Path:
    return digits_data if task.owner == 'mmpretrain' else sample_data


@pytest.fixture(scope='session')
def data_options(task, data_root) -> list:
    roots = [
        f'{split}_dataloader.dataset.data_root={data_root}/' for split in ('train', 'val', 'test')
    ]
    if task.owner != 'mmdet':
        return roots
    annotations = data_root / 'annotations/instances_val.json'
    return roots + [f'{split}_evaluator.ann_file={annotations}' for split in ('val', 'test')]


@pytest.fixture(scope='session')
def trained(task, repo, data_options, tmp_path_factory) -> Path:
    """A work dir with two checkpoints, trained by our own command line."""
    from mmpvg.apis.cli import train

    work_dir = tmp_path_factory.mktemp(task.name)
    train(
        [str(repo / task.config), '--work-dir', str(work_dir), '--cfg-options']
        + [*task.options, *data_options]
    )
    return work_dir
