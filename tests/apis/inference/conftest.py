"""An untrained detector and an untrained segmenter of the sample configs, with their weights."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image


class Model(NamedTuple):
    config: str
    checkpoint: str

    @property
    def cfg(self):
        return Config.fromfile(self.config)


def untrained(repo, folder, name):
    config = str(repo / f'configs/sample/{name}_vit_mpvg_sample.py')
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    path = folder / f'{name}.pth'
    meta = dict(dataset_meta=dict(cfg.test_dataloader.dataset.metainfo))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return Model(config, str(path))


@pytest.fixture(scope='session')
def detector(repo, tmp_path_factory) -> Model:
    return untrained(repo, tmp_path_factory.mktemp('weights'), 'mask_rcnn')


@pytest.fixture(scope='session')
def segmenter(repo, tmp_path_factory) -> Model:
    return untrained(repo, tmp_path_factory.mktemp('weights'), 'upernet')


@pytest.fixture(scope='session')
def val_images(sample_data) -> Path:
    return sample_data / 'images/val'


@pytest.fixture
def noise():
    """Writes an image of noise, and returns its pixels, RGB."""

    def write(path, size=(64, 48), seed=0, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(path, **options)
        return pixels

    return write
