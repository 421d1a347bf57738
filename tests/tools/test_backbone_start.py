"""``--backbone``: a classifier's backbone goes into a detector, the detector's into a segmenter."""

import re
import subprocess

import pytest
import torch
from mmengine.config import Config

from mmpvg.apis.cli import train
from mmpvg.engine.config.backbone import start_backbone
from mmpvg.models import MPVGViT


@pytest.fixture(scope='module')
def stage(repo, sample_data, digits_data, tmp_path_factory):
    """Trains a sample config for a step or two, and gives its checkpoint and its log."""

    def run(config, *arguments, options=()):
        work_dir = tmp_path_factory.mktemp('stage')
        root = digits_data if 'classifier' in config else sample_data
        roots = [f'{split}_dataloader.dataset.data_root={root}/' for split in ('train', 'val')]
        without = [f'{part}=None' for part in ('val_cfg', 'val_dataloader', 'val_evaluator')]
        train(
            [str(repo / f'configs/sample/{config}.py'), '--work-dir', str(work_dir), *arguments]
            + ['--cfg-options', *roots, *without, 'train_dataloader.batch_size=4', *options]
            + ['default_hooks.checkpoint.save_best=None']
        )
        (log,) = work_dir.glob('*/*.log')
        return (work_dir / 'last_checkpoint').read_text(), log.read_text()

    return run


@pytest.mark.slow
def test_from_classifier_to_detector_to_segmenter(stage):
    epochs = ['train_cfg.max_epochs=1']
    batch = 'train_dataloader.batch_size=32'
    classifier, log = stage('classifier_vit_mpvg_sample', options=[*epochs, batch])
    assert 'PretrainedViT' not in log
    detector, log = stage('mask_rcnn_vit_mpvg_sample', '--backbone', classifier, options=epochs)
    assert f'{classifier}, read as mmpvg:' in log
    assert 'loaded   89 tensors' in log and ' new ' not in log
    assert 'table: 4x4 -> 16x16 patches' in log
    assert 'head.* (2 tensors): lies outside the backbone' in log
    steps = ['train_cfg.max_iters=2', 'default_hooks.checkpoint.interval=1']
    _, log = stage('upernet_vit_mpvg_sample', '--backbone', detector, options=steps)
    assert f'{detector}, read as mmpvg:' in log
    assert 'table: 16x16 -> 12x12 patches' in log
    assert 'roi_head.* (16 tensors): lies outside the backbone' in log


@pytest.mark.slow
@pytest.mark.parametrize('delivery', ['lape', 'mpvg'])
def test_the_zeroed_pe_norms_of_an_upgrade_open_on_sample_data(stage, tmp_path, delivery):
    torch.manual_seed(0)
    arch = dict(embed_dims=128, num_layers=6, num_heads=4)
    source = MPVGViT(arch, 96, patch_size=8, pe_delivery='default')
    torch.save(source.state_dict(), tmp_path / 'plain.pth')
    steps = ['train_cfg.max_iters=8', 'default_hooks.checkpoint.interval=8']
    checkpoint, log = stage(
        'upernet_vit_mpvg_sample', '--backbone', str(tmp_path / 'plain.pth'),
        options=[*steps, f'model.backbone.pe_delivery={delivery}', 'log_processor.window_size=1']
        + ['default_hooks.logger.interval=1'],
    )  # fmt: skip
    assert 'starts as zero' in log
    state = torch.load(checkpoint, map_location='cpu', weights_only=False)['state_dict']
    norms = {name: value for name, value in state.items() if 'pe_delivery' in name}
    assert len(norms) == 12
    assert all(value.any() and value.isfinite().all() for value in norms.values())
    losses = [float(found) for found in re.findall(r'  loss: ([0-9.]+)', log)]
    assert len(losses) == 8 and losses[-1] < losses[0]


def test_other_settings_of_the_start_stay():
    start = dict(type='mmpvg.PretrainedViT', checkpoint='old', pe_norms='one')
    cfg = Config(dict(model=dict(type='X', backbone=dict(type='mmpvg.MPVGViT', init_cfg=start))))
    start_backbone(cfg, 'new.pth')
    assert cfg.model.backbone.init_cfg == {**start, 'checkpoint': 'new.pth'}
    encoder = [dict(type='mmpvg.MPVGViT', init_cfg=dict(type='Pretrained', checkpoint='x'))]
    cfg = Config(dict(model=dict(type='X', image_encoder=encoder)))
    start_backbone(cfg, 'new.pth')
    assert cfg.model.image_encoder[0].init_cfg == dict(
        type='mmpvg.PretrainedViT', checkpoint='new.pth'
    )
    cfg = Config(dict(model=dict(type='X', backbone=dict(type='ResNet'))))
    with pytest.raises(ValueError, match=r'MPVGViT.*\(X\)'):
        start_backbone(cfg, 'new.pth')


def test_the_chain_tells_its_usage(repo):
    script = repo / 'tools/pretrain_chain.sh'
    done = subprocess.run(['bash', script, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and 'bash tools/pretrain_chain.sh' in done.stdout
    assert subprocess.run(['bash', script, '--what'], capture_output=True).returncode != 0
