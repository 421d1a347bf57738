"""Hostile annotations, configs and arrays: none runs, each gets one sentence."""

import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
import yaml

from mmpvg.apis.inference.coco_ids import AnnotatedIds
from mmpvg.checkpoints import read_weights

CONFIG = 'configs/sample/upernet_vit_mpvg_sample.py'
YAML = '!!python/object/apply:os.mkdir ["{}"]'


def pickle_of(path):
    """A call of os.mkdir."""
    return b"cos\nmkdir\n(S'%s'\ntR." % str(path).encode()


@pytest.fixture
def good(tmp_path):
    torch.save({}, tmp_path / 'good.pth')
    return tmp_path / 'good.pth'


@pytest.mark.parametrize('door', ['train.py', 'test.py', 'misc/check_dataset.py', 'compare'])
@pytest.mark.parametrize('suffix', ['.yaml', '.pkl'])
def test_annotations_run_nothing(run_refused, good, sample_data, tmp_path, door, suffix):
    path, marker = tmp_path / f'annotations{suffix}', tmp_path / 'it_ran'
    if suffix == '.pkl':
        path.write_bytes(pickle_of(marker))
    else:
        path.write_text(YAML.format(marker))
    split = 'train' if door in ('train.py', 'misc/check_dataset.py') else 'test'
    command = {
        'test.py': ('test.py', CONFIG, good, '--work-dir', tmp_path / 'run'),
        'train.py': ('train.py', CONFIG, '--work-dir', tmp_path / 'run'),
        'compare': ('analysis_tools/compare.py', CONFIG, good, good, '--names', 'a', 'b')
        + ('--out', tmp_path / 'out'),
    }.get(door, (door, CONFIG))
    message = run_refused(
        *command,
        *('--cfg-options', f'{split}_dataloader.dataset.data_root={sample_data}/'),
        f'{split}_dataloader.dataset.ann_file={path}',
    )
    assert f'{split}_dataloader.dataset.ann_file is {path}' in message and 'any code' in message
    assert not marker.exists()
    # The test can fail.
    yaml.unsafe_load(path.read_text()) if suffix == '.yaml' else pickle.loads(path.read_bytes())
    assert marker.exists()


def test_a_config_in_yaml_is_not_read(run_refused, tmp_path):
    (tmp_path / 'config.yaml').write_text(YAML.format(tmp_path / 'it_ran'))
    message = run_refused('misc/check_dataset.py', tmp_path / 'config.yaml')
    assert 'can run any code' in message and not (tmp_path / 'it_ran').exists()


def test_deep_json_is_refused(tmp_path):
    (tmp_path / 'deep.json').write_text('[' * 100_000)
    with pytest.raises(ValueError, match='deep.json is no COCO annotation file.*RecursionError'):
        AnnotatedIds(['a'], tmp_path / 'deep.json')
    with pytest.raises(RecursionError):
        json.loads((tmp_path / 'deep.json').read_text())


def test_arrays_that_would_unpickle_are_refused(tmp_path):
    marker = tmp_path / 'it_ran'
    with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as file, file.open('a.npy', 'w') as member:
        header = dict(descr='|O', fortran_order=False, shape=(1,))
        np.lib.format.write_array_header_1_0(member, header)
        member.write(pickle_of(marker))
    with pytest.raises(ValueError, match='no AugReg file'):
        read_weights(str(tmp_path / 'a.npz'))
    assert not marker.exists()
    # The test can fail.
    with np.load(tmp_path / 'a.npz', allow_pickle=True) as file:
        file['a']
    assert marker.exists()
