"""What is built from inert stand-ins equals what torch and pickle build, on any stack."""

import argparse
import collections
import functools

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmpvg.checkpoints import RefusedFileError, load_pth
from mmpvg.checkpoints.inert import Placeholder, placeholders_in

DTYPES = ['f2', 'f4', 'f8', 'i1', 'i8', 'u1', '>i4', '?', 'c8', 'S3', 'U2']


def arrays():
    values = np.arange(12.0).reshape(3, 4)
    found = [values.astype(dtype) for dtype in DTYPES]
    found += [np.asfortranarray(values), values[::2, 1:], np.zeros((0, 3)), np.array(2.5)]
    return found + [value.flat[1] for value in found[:-2]] + [np.float32(1), np.bool_(True)]


def read_pickle(folder, value):
    torch.save(value, folder / 'value.pth')
    return load_pth(folder / 'value.pth')


def test_arrays_and_numbers_come_back_equal(tmp_path):
    for value in arrays():
        read = read_pickle(tmp_path, value)
        assert type(read) is type(value) and read.dtype == value.dtype
        np.testing.assert_array_equal(read, value)
        if isinstance(value, np.ndarray):
            read[...] = 0


def test_what_has_pointers_is_not_built(tmp_path):
    values = [
        np.array([None]),
        np.array([(1, 'a')], dtype=[('a', 'i4'), ('b', 'O')]),
        np.dtype('O'),
    ]
    for value in values:
        read = read_pickle(tmp_path, value)
        assert isinstance(read, Placeholder) and read.origin.startswith('numpy.')


@pytest.mark.parametrize('zipped', [True, False])
def test_what_torch_saved_is_what_is_read(tmp_path, zipped):
    """The oracle is torch.load without restrictions."""
    shared = torch.arange(12.0).view(3, 4)
    content = dict(
        state_dict=collections.OrderedDict(a=shared, b=shared[1:, ::2], c=torch.empty(0, 3)),
        kinds=[torch.zeros(3, dtype=getattr(torch, d)) for d in ('bool', 'half', 'bfloat16')],
        parameter=torch.nn.Parameter(torch.rand(2)),
        milestones=collections.Counter([1, 1, 2]),
        rest=({1, 2}, frozenset([3]), b'\x00\xff', b'', torch.Size([2]), torch.float16, 2**70),
        numbers=[np.float64(1.5), np.arange(6).reshape(2, 3)],
        log=HistoryBuffer([1.0, 2.0], [1, 3], 5),
    )
    path = tmp_path / 'a.pth'
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = load_pth(path)
    wanted = torch.load(path, weights_only=False)
    assert list(read) == list(wanted) and not placeholders_in(read)
    for name, tensor in wanted['state_dict'].items():
        assert torch.equal(read['state_dict'][name], tensor)
    # One storage, as before.
    a, b = (read['state_dict'][name].untyped_storage().data_ptr() for name in 'ab')
    assert a == b
    for one, other in zip(read['kinds'], wanted['kinds']):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert isinstance(read['parameter'], torch.nn.Parameter)
    assert torch.equal(read['parameter'], wanted['parameter'])
    assert read['milestones'] == wanted['milestones'] and read['rest'] == wanted['rest']
    assert type(read['milestones']) is collections.Counter
    assert read['numbers'][0] == 1.5 and np.array_equal(*(x['numbers'][1] for x in (read, wanted)))
    assert type(read['log']) is HistoryBuffer and read['log'].max_length == 5
    for one, other in zip(read['log'].data, wanted['log'].data):
        assert one.dtype == other.dtype and np.array_equal(one, other)
    for log in (read['log'], wanted['log']):
        log.update(3.0)
    assert read['log'].mean() == wanted['log'].mean()


def test_objects_beside_weights_are_inert(tmp_path):
    beside = dict(
        args=argparse.Namespace(lr=1, where=np.float64(2)),
        optimizer=functools.partial(torch.optim.AdamW, lr=1.0),
        counts=collections.defaultdict(int, a=1),
    )
    torch.save(dict(model={'w': torch.ones(2)}, **beside), tmp_path / 'a.pth')
    read = load_pth(tmp_path / 'a.pth')
    assert torch.equal(read['model']['w'], torch.ones(2))
    assert placeholders_in(read) == {'argparse.Namespace', 'functools.partial'}
    assert read['counts'] == {'a': 1}


def test_an_unknown_class_is_named(tmp_path):
    torch.save(dict(model={}, net=torch.nn.Linear(1, 1)), tmp_path / 'a.pth')
    with pytest.raises(RefusedFileError, match='asks to call torch.nn.modules.linear.Linear'):
        load_pth(tmp_path / 'a.pth')
