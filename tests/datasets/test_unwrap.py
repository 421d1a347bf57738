"""Data sets are found inside their wrappers, in configs and as built."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset

from mmpvg.datasets.unwrap import first_config, innermost_config, unwrapped
from mmpvg.engine.hooks.class_count import check_data_classes


def test_configs():
    inner = dict(type='CocoDataset', ann_file='x')
    loader = ConfigDict(dataset=dict(type='A', dataset=dict(type='B', dataset=inner)))
    assert innermost_config(loader) == first_config(loader) == inner
    several = ConfigDict(dataset=dict(type='C', datasets=[dict(type='A', dataset=inner), {}]))
    assert first_config(several) == inner
    assert innermost_config(several).type == 'C'
    assert first_config(None) == {}


def test_built_data_sets():
    one, two = (BaseDataset(lazy_init=True) for _ in range(2))
    joined = dict(type='ConcatDataset', datasets=[one, two], lazy_init=True)
    nested = RepeatDataset(joined, 2, lazy_init=True)
    assert [id(found) for found in unwrapped(nested)] == [id(one), id(two)]
    assert [id(found) for found in unwrapped(one)] == [id(one)]


def test_every_file_of_several_must_have_all_classes():
    model = torch.nn.Linear(1, 1)
    files = [BaseDataset(metainfo=dict(classes=('a', 'b')), lazy_init=True) for _ in range(2)]
    files[0].cat_ids, files[1].cat_ids = [1, 2], [1]
    joined = ConcatDataset(files, lazy_init=True)
    with pytest.raises(ValueError, match='val_dataloader knows 1 of the 2 classes'):
        check_data_classes(model, joined, 'val_dataloader')
    files[1].cat_ids = [1, 2]
    check_data_classes(model, joined, 'val_dataloader')
