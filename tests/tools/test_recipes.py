"""The recipes train at their own settings on the sample data, resume and test.

Batch, size and data are set by command-line options alone; optimizer, schedule, hooks, augmentation
and heads are the recipe's.
"""

import dataclasses
import math
import os
import subprocess
from pathlib import Path

import pytest
import torch

from mmpvg.apis.cli import test as run_test
from mmpvg.apis.cli import train as run_train
from mmpvg.models.backbones import PlainViT

pytestmark = pytest.mark.slow

CLASSES = '[ball,box,cone,star,ring]'
LOADERS = ('train', 'val', 'test')


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A config, what reduces it, and the learning rate it has after the first iteration."""

    config: str
    heads: tuple
    options: tuple = ()
    lr: float = 1e-4

    @property
    def segments(self):
        return self.config.startswith(('upernet', 'segmenter'))

    @property
    def by_epoch(self):
        return not self.segments and 'lsj' not in self.config


BOXES = ('roi_head.bbox_head', 'roi_head.mask_head')
MULTI_SCALE = tuple(
    f'train_dataloader.dataset.pipeline.4.transforms.{where}.scales=[(96,200)]'
    for where in ('0.0', '1.0', '1.2')
) + ('train_dataloader.dataset.pipeline.4.transforms.1.1.crop_size=(64,90)',)
SINGLE_SCALE = ('train_dataloader.dataset.pipeline.3.scale=(200,96)',)
JITTER = (
    'train_dataloader.dataset.pipeline.4.scale=(160,160)',
    'train_dataloader.dataset.pipeline.5.crop_size=(160,160)',
    'model.data_preprocessor.pad_size_divisor=160',
)
TINY = ('model.backbone.arch=deit-tiny',)
RECIPES = (
    Recipe('mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco', BOXES, MULTI_SCALE),
    Recipe(
        'mask_rcnn/mask_rcnn_vit-adapter-t_mpvg_8xb2-1x_coco',
        BOXES,
        (*SINGLE_SCALE, 'model.backbone.pe_delivery=lape'),
        lr=2e-4,
    ),
    Recipe('mask_rcnn/mask_rcnn_vit-t_mpvg-gab_8xb1-ms-3x_coco', BOXES, MULTI_SCALE),
    Recipe(
        'mask_rcnn/mask_rcnn_vit-s_none-relpos-gab_8xb1-ms-3x_coco',
        BOXES,
        (*MULTI_SCALE, *TINY, 'model.neck.in_channels=deit-tiny'),
    ),
    Recipe(
        'cascade_mask_rcnn/cascade_mask_rcnn_vit-adapter-s_mpvg_8xb2-ms-3x_coco',
        (*(f'roi_head.bbox_head.{stage}' for stage in range(3)), 'roi_head.mask_head'),
        (*MULTI_SCALE, *TINY, 'model.neck.in_channels=[192,192,192,192]'),
    ),
    Recipe(
        'vitdet/vitdet_vit-b_mpvg_16xb4-lsj-100e_coco',
        BOXES,
        (*JITTER, *TINY, 'model.neck.in_channels=deit-tiny'),
    ),
    Recipe(
        'upernet/upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512',
        ('decode_head', 'auxiliary_head'),
        lr=12e-5,
    ),
    Recipe(
        'upernet/upernet_vit-t_mpvg-gab_8xb1-160k_ade20k-512x512',
        ('decode_head', 'auxiliary_head'),
        ('model.backbone.pe_delivery=default',),
        lr=12e-5,
    ),
    Recipe(
        'segmenter/segmenter-mask_vit-t_default_8xb1-160k_ade20k-512x512',
        ('decode_head',),
        ('model.backbone.pe_delivery=lape',),
        lr=1e-3,
    ),
    Recipe(
        'segmenter/segmenter-linear_vit-t_mpvg_8xb1-160k_ade20k-512x512', ('decode_head',), lr=1e-3
    ),
    Recipe(
        'mask_rcnn/mask_rcnn_vit-s-p14_mpvg_8xb1-ms-3x_coco',
        BOXES,
        (*MULTI_SCALE, *TINY, 'model.neck.in_channels=deit-tiny'),
    ),
)  # fmt: skip


def reduced(recipe, data):
    """The options that put a recipe on a few sample images."""
    options = [
        *recipe.options,
        'train_dataloader.batch_size=2',
        'train_dataloader.dataset.indices=4',
    ]
    for head in recipe.heads:
        options.append(f'model.{head}.num_classes={6 if recipe.segments else 5}')
        if 'bbox_head' in head:
            options.append(f'model.{head}.fc_out_channels=64')
        if not recipe.segments:
            options.append(f'model.{head}.conv_out_channels=32')
    if recipe.config.startswith('upernet'):
        options.append('model.decode_head.channels=64')
    for loader in LOADERS:
        split = 'train' if loader == 'train' else 'val'
        dataset = f'{loader}_dataloader.dataset'
        options += [
            f'{loader}_dataloader.num_workers=0',
            f'{loader}_dataloader.persistent_workers=False',
            f'{dataset}.data_root={data}',
        ]
        if recipe.segments:
            options += [
                f'{dataset}.type=BaseSegDataset',
                f'{dataset}.reduce_zero_label=True',
                f'{dataset}.img_suffix=.jpg',
                f'{dataset}.seg_map_suffix=.png',
                f'{dataset}.metainfo.classes=[background,{CLASSES[1:]}',
                f'{dataset}.data_prefix.img_path=images/{split}',
                f'{dataset}.data_prefix.seg_map_path=annotations/{split}',
            ]
        else:
            options += [
                f'{dataset}.metainfo.classes={CLASSES}',
                f'{dataset}.ann_file=annotations/instances_{split}.json',
                f'{dataset}.data_prefix.img=images/{split}/',
            ]
    if recipe.segments:
        options += [
            'model.data_preprocessor.size=(96,96)',
            'model.test_cfg.crop_size=(96,96)',
            'model.test_cfg.stride=(64,64)',
            'train_dataloader.dataset.pipeline.3.scale=(256,96)',
            'train_dataloader.dataset.pipeline.4.crop_size=(96,96)',
            'val_dataloader.dataset.pipeline.1.scale=(256,96)',
            'test_dataloader.dataset.pipeline.1.scale=(256,96)',
        ]
    else:
        stages = (f'.{stage}' for stage in range(3)) if 'cascade' in recipe.config else ('',)
        options += [f'model.train_cfg.rcnn{stage}.sampler.num=16' for stage in stages]
        for part in ('train_cfg.rpn_proposal', 'test_cfg.rpn'):
            options += [f'model.{part}.nms_pre=100', f'model.{part}.max_per_img=20']
        options.append('model.test_cfg.rcnn.max_per_img=10')
        annotations = f'{data}/annotations/instances_val.json'
        options += [f'{split}_evaluator.ann_file={annotations}' for split in ('val', 'test')]
        for loader in ('val', 'test'):
            options.append(f'{loader}_dataloader.dataset.pipeline.1.scale=(160,160)')
    if recipe.by_epoch:
        options += ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2']
    else:
        options += [
            'train_cfg.max_iters=2',
            'train_cfg.val_interval=2',
            'default_hooks.checkpoint.interval=1',
        ]
    return options


@pytest.fixture(params=RECIPES, ids=lambda recipe: recipe.config.split('/')[1], scope='module')
def recipe(request):
    return request.param


@pytest.fixture(scope='module')
def options(recipe, sample_data):
    return reduced(recipe, sample_data)


@pytest.fixture(scope='module')
def deit(tmp_path_factory):
    """A DeiT-Ti of random weights, in timm's names, for ``--backbone``."""
    import timm

    file = tmp_path_factory.mktemp('weights') / 'deit.pth'
    torch.save({'model': timm.create_model('deit_tiny_patch16_224').state_dict()}, file)
    return str(file)


@pytest.fixture(scope='module')
def start(recipe, deit):
    """From DeiT, or, where the recipe's weights are of another family, from scratch."""
    if any(part in recipe.config for part in ('relpos', 'vitdet', '-p14_')):
        return [], ['model.backbone.init_cfg=None']
    return ['--backbone', deit], []


@pytest.fixture(scope='module')
def trained(recipe, repo, options, start, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('recipe')
    switches, extra = start
    config = str(repo / f'configs/{recipe.config}.py')
    runner = run_train(
        [config, '--work-dir', str(work_dir), *switches, '--cfg-options', *options, *extra]
    )
    return runner, work_dir


def checkpoint(recipe, work_dir, step):
    return Path(work_dir) / f'{"epoch" if recipe.by_epoch else "iter"}_{step}.pth'


def test_it_trains_with_its_own_optimizer_and_schedule(recipe, trained):
    runner, work_dir = trained
    model = runner.model
    assert isinstance(model.backbone, PlainViT)
    groups = runner.optim_wrapper.param_groups
    assert max(group['initial_lr'] for group in groups) == pytest.approx(recipe.lr)
    first, last = (
        torch.load(checkpoint(recipe, work_dir, step), map_location='cpu', weights_only=False)
        for step in (1, 2)
    )
    names = [name for name, _ in model.named_parameters()]
    assert all(torch.isfinite(last['state_dict'][name]).all() for name in names)
    # Warm-up starts so low that float32 keeps some weights as they are.
    moved = [n for n in names if not torch.equal(first['state_dict'][n], last['state_dict'][n])]
    assert len(moved) > 0.5 * len(names)
    # Every parameter is in the optimizer and had its gradients.
    steps = {int(state.get('step', 2)) for state in last['optimizer']['state'].values()}
    assert len(last['optimizer']['state']) == len(names) and steps == {runner.iter}


def test_it_resumes(recipe, trained, repo, options, start, tmp_path):
    runner, work_dir = trained
    resumed = run_train(
        [str(repo / f'configs/{recipe.config}.py'), '--work-dir', str(tmp_path)]
        + ['--resume', str(checkpoint(recipe, work_dir, 1)), '--cfg-options', *options]
        + ['model.backbone.init_cfg=None', 'default_hooks.checkpoint.save_best=None']
        + [f'{part}=None' for part in ('val_cfg', 'val_dataloader', 'val_evaluator')]
    )
    assert (resumed.epoch, resumed.iter) == (runner.epoch, runner.iter)
    assert not checkpoint(recipe, tmp_path, 1).exists(), 'the first step was trained again'
    rates = [group['lr'] for group in resumed.optim_wrapper.param_groups]
    assert rates == pytest.approx([group['lr'] for group in runner.optim_wrapper.param_groups])


def test_it_tests(recipe, trained, repo, options, tmp_path):
    _, work_dir = trained
    metrics = run_test(
        [str(repo / f'configs/{recipe.config}.py'), str(checkpoint(recipe, work_dir, 2))]
        + ['--work-dir', str(tmp_path), '--cfg-options', *options]
    )
    names = ('mIoU',) if recipe.segments else ('coco/bbox_mAP', 'coco/segm_mAP')
    assert all(math.isfinite(metrics[name]) for name in names)


@pytest.mark.parametrize('adapted', [RECIPES[0], RECIPES[6]], ids=['mask_rcnn', 'upernet'])
def test_vit_adapter_trains_and_is_tested_with_two_processes(
    adapted, repo, sample_data, deit, tmp_path
):
    """Without find_unused_parameters, which would hide a parameter without a gradient."""
    config, weights = repo / f'configs/{adapted.config}.py', checkpoint(adapted, tmp_path, 2)
    options = ['--cfg-options', *reduced(adapted, sample_data)]
    for script, arguments in (
        ('dist_train.sh', [config, '2', '--work-dir', tmp_path, '--backbone', deit]),
        ('dist_test.sh', [config, weights, '2', '--work-dir', tmp_path / 'test']),
    ):
        done = subprocess.run(
            ['bash', repo / 'tools' / script, *arguments, *options],
            env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert weights.exists() and list(tmp_path.glob('test/*/*.json'))
