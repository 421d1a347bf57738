"""Upstream's own configs, which do not use mmpvg, train on the compiler-free operators."""

import math
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config

from benchmarks.ops.first_losses import first_losses
from mmpvg.ops import extension

CONFIGS = {
    'mmdet/faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': 'mask_rcnn_vit_mpvg_sample',
    'mmdet/deformable_detr/deformable-detr_r50_16xb2-50e_coco.py': 'mask_rcnn_vit_mpvg_sample',
    'mmseg/deeplabv3plus/deeplabv3plus_r50-d8_4xb2-40k_cityscapes-512x1024.py': (
        'upernet_vit_mpvg_sample'
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', CONFIGS, ids=lambda name: name.split('/')[1])
def test_two_iterations_on_sample_data(name, repo, sample_data):
    """With the config's model, optimizer and schedule; without its pretrained weights."""
    package, _, path = name.partition('/')
    root = Path(find_spec(package).submodule_search_locations[0])
    cfg = Config.fromfile(root / '.mim' / 'configs' / path)
    cfg.model.backbone.init_cfg = None
    if 'pretrained' in cfg.model:
        cfg.model.pretrained = None
    if package == 'mmseg':
        cfg.model.data_preprocessor.size = (96, 96)
    data = Config.fromfile(repo / f'configs/sample/{CONFIGS[name]}.py').train_dataloader.dataset
    data.data_root = str(sample_data)
    cfg.train_dataloader = dict(
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=True),
        batch_sampler=cfg.train_dataloader.get('batch_sampler'),
        dataset=data,
    )
    first, second = first_losses(cfg, extension, 2)
    assert first.keys() == second.keys() and len(first) > 2
    assert all(map(math.isfinite, [*first.values(), *second.values()]))
    assert first['loss'] > 0 and first != second
