"""Files that are no weights, or would run code: a clear error each, and nothing runs."""

import os
import pickle
import re

import numpy as np
import pytest
import torch

from mmpvg.checkpoints import PretrainedViT, RefusedFileError, load_pth
from mmpvg.utils.errors import UserError


@pytest.fixture
def load(make_vit):
    return lambda path: PretrainedViT(str(path))(make_vit())


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class EvalBomb(Bomb):
    def __reduce__(self):
        return eval, (f'__import__("os").mkdir({str(self.path)!r})',)


@pytest.mark.parametrize('bomb', [Bomb, EvalBomb])
@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('place', ['beside', 'inside', 'alone'])
def test_a_pickle_that_would_run_code_does_not(load, make_timm, tmp_path, bomb, zipped, place):
    trace = tmp_path / 'it_ran'
    state = make_timm().state_dict()
    content = bomb(trace)
    if place == 'beside':
        content = {'model': state, 'args': content}
    elif place == 'inside':
        content = state | {'blocks.0.norm1.weight': content}
    file = tmp_path / 'bomb.pth'
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RefusedFileError, match='nothing was run'):
        load(file)
    assert not trace.exists()
    # The bomb is real: the unsafe way sets it off.
    torch.load(file, weights_only=False)
    assert trace.exists()


def test_a_plain_pickle_that_would_run_code_does_not(load, tmp_path):
    trace = tmp_path / 'it_ran'
    (tmp_path / 'bomb.pth').write_bytes(pickle.dumps(Bomb(trace)))
    with pytest.raises(ValueError, match='cannot read'):
        load(tmp_path / 'bomb.pth')
    assert not trace.exists()


@pytest.mark.parametrize('kept', [0.999, 0.5, 0.01])
@pytest.mark.parametrize('zipped', [True, False])
def test_truncated_pth(load, make_timm, tmp_path, kept, zipped):
    file = tmp_path / 'vit.pth'
    torch.save(make_timm().state_dict(), file, _use_new_zipfile_serialization=zipped)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match='vit.pth .*bytes.*truncated'):
        load(file)


@pytest.mark.parametrize('kept', [0.9, 0.01])
def test_truncated_safetensors(load, make_timm, tmp_path, kept):
    from safetensors.torch import save_file

    file = tmp_path / 'vit.safetensors'
    save_file(make_timm().state_dict(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ValueError, match='truncated'):
        load(file)


def test_truncated_npz(load, tmp_path):
    file = tmp_path / 'vit.npz'
    np.savez(file, **{'embedding/kernel': np.zeros((16, 16, 3, 48))})
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match='truncated or no AugReg'):
        load(file)


def test_npz_of_objects(load, tmp_path):
    trace = tmp_path / 'it_ran'
    np.savez(tmp_path / 'vit.npz', bomb=np.array([Bomb(trace)], dtype=object))
    with pytest.raises(ValueError, match='no AugReg file'):
        load(tmp_path / 'vit.npz')
    assert not trace.exists()


ATTENTION = 'Transformer/encoderblock_0/MultiHeadDotProductAttention_1'


@pytest.mark.parametrize(
    'arrays',
    [
        {'cls': np.array(['x']), 'embedding/kernel': np.zeros((2, 2, 2, 2))},
        {'embedding/kernel': np.zeros((2, 2))},
        {f'{ATTENTION}/query/kernel': np.zeros(3)},
        {
            f'{ATTENTION}/{which}/{part}': np.zeros((4, 2, 2) if which == 'key' else ())
            for which in ('query', 'key', 'value')
            for part in ('kernel', 'bias')
        },
    ],
)
def test_npz_of_other_shapes(load, tmp_path, arrays):
    np.savez(tmp_path / 'vit.npz', **arrays)
    with pytest.raises(UserError, match='cannot read .*vit.npz: .*no AugReg file'):
        load(tmp_path / 'vit.npz')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'<!DOCTYPE html>\n<title>404</title>', 'text.*DOCTYPE'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'git lfs pull'),
        (b'', 'empty'),
        (b'\x80\x02garbage that is no pickle', 'a pickle of objects'),
        (b'PK\x03\x04 not a zip', 'truncated, or not a zip'),
    ],
)
def test_no_checkpoint_at_all(load, tmp_path, content, message):
    (tmp_path / 'vit.pth').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / 'vit.pth')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'layer1.0.conv1.weight': torch.zeros(1), 'fc.weight': torch.zeros(1)}, 'a ResNet'),
        (
            {'state_dict': {'layers.0.blocks.0.attn.relative_position_bias_table': torch.ones(1)}},
            'BEiT, EVA or Swin',
        ),
        ({'vit.embeddings.patch_embeddings.projection.weight': torch.ones(1)}, 'timm://'),
        ({'a.weight': torch.ones(1)}, 'start with a.weight'),
        ({'patch_embed.proj.weight': torch.ones(8, 3, 2, 2)}, 'no plain ViT'),
        ({'epoch': 3, 'args': 'x'}, "the keys 'epoch', 'args'"),
        ([torch.ones(2)], 'a list'),
        ({'weights_of_mine': {'patch_embed.proj.weight': torch.ones(1)}}, 'key='),
    ],
)
def test_a_file_that_fits_nothing_is_described(load, tmp_path, content, message):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=message):
        load(tmp_path / 'x.pth')


def test_torchscript_is_refused(load, tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / 'x.pth'))
    with pytest.raises(ValueError, match='TorchScript'):
        load(tmp_path / 'x.pth')


def test_a_missing_file_and_a_strange_scheme(load, tmp_path):
    with pytest.raises(FileNotFoundError, match='none.pth'):
        load(tmp_path / 'none.pth')
    with pytest.raises(ValueError, match='cannot fetch s3://'):
        load('s3://bucket/vit.pth')


@pytest.mark.parametrize('zipped', [True, False])
def test_tensors_of_every_kind_come_back_equal(tmp_path, zipped):
    """The second reading, forced by an object beside the weights, reads what torch saved."""
    import argparse

    shared = torch.arange(12.0).view(3, 4)
    state = {
        'whole': shared,
        'view': shared[1:, ::2],
        'parameter': torch.nn.Parameter(torch.rand(3)),
        'half': torch.rand(3).half(),
        'bfloat16': torch.rand(3).bfloat16(),
        'long': torch.arange(5),
        'bool': torch.tensor([True, False]),
        'scalar': torch.tensor(3.0),
        'empty': torch.empty(0, 4),
    }
    file = tmp_path / 'x.pth'
    torch.save(
        {'state_dict': state, 'args': argparse.Namespace(a=1, b=np.float64(2))}, file,
        _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    loaded = load_pth(file)['state_dict']
    assert set(loaded) == set(state)
    for name, tensor in state.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


@pytest.mark.parametrize(
    ('name', 'change'),
    [
        ('blocks.0.attn.qkv.weight', lambda t: (100 * t).to(torch.int8)),
        ('norm.weight', lambda t: t.to(torch.complex64)),
        ('blocks.1.norm1.bias', lambda t: t > 0),
        ('pos_embed', lambda t: t.long()),
        ('blocks.0.attn.qkv.weight', lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
        ('norm.weight', lambda t: t.to('meta')),
        ('blocks.0.mlp.fc1.weight', lambda t: t.to_sparse()),
    ],
)
def test_a_tensor_of_other_values_than_weights_is_named(load, make_timm, tmp_path, name, change):
    state = make_timm().state_dict()
    torch.save({**state, name: change(state[name])}, tmp_path / 'vit.pth')
    shape = re.escape(str(tuple(state[name].shape)))
    # The reader for torch before 2.5 builds none of the last three.
    message = f'{re.escape(name)} of .*{shape}|call torch._utils._rebuild_(qtensor|meta|sparse)'
    with pytest.raises(UserError, match=message) as refused:
        load(tmp_path / 'vit.pth')
    assert '\n' not in str(refused.value)


@pytest.mark.parametrize(
    ('name', 'shape'),
    [
        ('pos_embed', (17,)),
        ('pos_embed', (1, 1, 17, 48, 1)),
        ('pos_embed', (1, 17, 24)),
        ('pos_embed', (2, 17, 48)),
        ('pos_embed', (1, 4, 4, 24)),
        ('cls_token', (48,)),
        ('cls_token', (2, 1, 48)),
        ('reg_token', (48,)),
        ('reg_token', (1, 4, 24)),
        ('dist_token', ()),
        ('patch_embed.proj.weight', ()),
        ('patch_embed.proj.weight', (48, 3)),
        ('blocks.0.mlp.fc1.weight', ()),
        ('blocks.0.mlp.fc2.weight', (3,)),
        ('blocks.0.attn.rel_pos_h', ()),
        ('blocks.0.norm1.weight', ()),
        ('norm.weight', (1, 48)),
    ],
)
def test_a_tensor_of_another_shape_is_named_with_it(load, make_timm, tmp_path, name, shape):
    torch.save({**make_timm().state_dict(), name: torch.zeros(shape)}, tmp_path / 'vit.pth')
    with pytest.raises(ValueError, match=re.escape(str(shape))) as refused:
        load(tmp_path / 'vit.pth')
    assert '\n' not in str(refused.value)
    message = str(refused.value).replace('register_tokens', 'reg_token')
    assert name in message.replace('a patch embedding of', 'patch_embed.proj.weight')
