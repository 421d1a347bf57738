"""Hostile checkpoints of every kind, through every door: none runs, each gets one sentence."""

import functools
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile

import pytest
import timm
import torch
import torchvision.io  # noqa: F401  Registers the operator that writes a file.
from huggingface_hub.utils import EntryNotFoundError
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import runner
from mmengine.utils import digit_version
from safetensors.torch import save_file

from mmpvg.checkpoints import RefusedFileError, load_pth, read_weights
from mmpvg.checkpoints.mmengine_reading import read_checkpoint
from mmpvg.checkpoints.safe_load import placeholders_in

CONFIG = 'configs/sample/upernet_vit_mpvg_sample.py'


class Call:
    """Unpickles to a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Writer(torch.nn.Module):
    """A program that writes a file when it is loaded."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        torch.ops.image.write_file(self.path, torch.zeros(1, dtype=torch.uint8))


def archive(path, body):
    """A zip archive of torch.save with the instructions of a pickle that makes one value."""
    names = b'}X\x05\x00\x00\x00model' + body + b's.'
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('a/data.pkl', b'\x80\x02' + names)
        file.writestr('a/version', '3\n')


def named(module, name):
    return b'c%s\n%s\n' % (module.encode(), name.encode())


def text(value):
    return b'X' + struct.pack('<I', len(value)) + value.encode()


OBJECT = named('numpy', 'dtype') + text('O8') + b'\x85R'
# Without the flags that make NumPy take a list for objects, not bytes.
UNFLAGGED = OBJECT + b'(K\x03' + text('|') + b'NNN' + b'J\xff\xff\xff\xff' * 2 + b'K\x00tb'
POINTER = named('_codecs', 'encode') + text('A' * 8) + text('latin1') + b'\x86R'


def torchscript(path, marker, tail=b''):
    torch.jit.save(torch.jit.script(Writer(str(marker))), str(path))
    path.write_bytes(path.read_bytes() + tail)


def tar(path, marker):
    content = pickle.dumps(Call(os.mkdir, str(marker)))
    with tarfile.open(path, 'w') as file:
        for name in ('storages', 'tensors', 'pickle'):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def damaged(path, marker):
    torch.save(dict(model={'weight': torch.ones(999)}), path)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(torch.ones(9).numpy().tobytes(), b'\xff' * 36, 1))


def short(path, marker):
    torch.save(dict(model={'weight': torch.ones(999)}), path)
    with zipfile.ZipFile(path) as file:
        content = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, 'w') as file:
        for name, data in content.items():
            file.writestr(name, data[:4] if name.endswith('data/0') else data)


def deep(path, marker, depth=20_000):
    archive(path, b']' * depth + b'a' * (depth - 1))


def deep_key(once, depth=200_000):
    """A key of nested tuples, whose hash overflows the stack of the process.

    ``once`` is what puts a tuple into another.
    """
    return lambda path, marker: archive(path, b'})' + once * depth + b'K\x01s')


def deep_key_before_1_6(path, marker):
    content = b'\x80\x02})' + b'\x85' * 200_000 + b'K\x01s.'
    head = b''.join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
    path.write_bytes(head + content + pickle.dumps([], 2))


def saved(function, *args, **options):
    return lambda path, marker: torch.save(
        dict(model={}, args=Call(function, *args, *(() if args else (str(marker),)))),
        path,
        **options,
    )


def plain(path, marker):
    path.write_bytes(pickle.dumps(dict(model=Call(os.mkdir, str(marker)))))


# Those that run something when they are loaded as upstream loads.
RUN = {
    'pickle': saved(os.mkdir),
    'pickle, protocol 4': saved(os.mkdir, pickle_protocol=4),
    'pickle, before torch 1.6': saved(os.mkdir, _use_new_zipfile_serialization=False),
    'plain pickle': plain,
    'evaluated text': lambda path, marker: saved(eval, f'__import__("os").mkdir({str(marker)!r})')(
        path, marker
    ),
    'TorchScript': torchscript,
    # Where Python's zipfile finds the start of another directory, cut off.
    'TorchScript that is no zip': lambda path, marker: torchscript(path, marker, b'PK\x05\x06'),
}
OTHERS = {
    'tar': tar,
    'damaged': damaged,
    'short tensor': short,
    'deep': deep,
    'deep key': deep_key(b'\x85'),
    'deep key, memoized': deep_key(b'\x85q\x00'),
    'deep key of pairs': deep_key(b'K\x01\x86'),
    'deep key out of the memo': deep_key(b'q\x000(h\x00t'),
    # Sixty tuples, which a hash visits 2**60 times.
    'doubled key': lambda path, marker: archive(path, b'})' + b'q\x00h\x00\x86' * 60 + b'K\x01s'),
    'deep key, before torch 1.6': deep_key_before_1_6,
    'array of pointers': lambda path, marker: archive(
        path,
        named('numpy.core.multiarray', '_reconstruct')
        + b'('
        + named('numpy', 'ndarray')
        + b'K\x00\x85'
        + text('b')
        + b'tR(K\x01K\x01\x85'
        + UNFLAGGED
        + b'\x89'
        + POINTER
        + b'tb',
    ),
    'array over a buffer': lambda path, marker: archive(
        path, named('numpy', 'ndarray') + b'(K\x01\x85' + OBJECT + POINTER + b'tR'
    ),
    'storage with an allocator': lambda path, marker: archive(
        path, named('torch', 'UntypedStorage') + b')}' + text('allocator') + b'K\x01s\x92'
    ),
    'state of a class': lambda path, marker: archive(
        path,
        named('mmengine.logging.history_buffer', 'HistoryBuffer')
        + (b'N}' + text('mean') + b'K\x01s\x86b'),
    ),
    'state of a function': lambda path, marker: archive(
        path,
        named('torch._utils', '_rebuild_tensor_v2')
        + (b'N}' + text('__defaults__') + b'K\x01\x85s\x86b'),
    ),
}
KINDS = {**RUN, **OTHERS}


collect_env_once = functools.cache(runner.collect_env)


@pytest.fixture(autouse=True)
def one_look_at_the_environment(monkeypatch):
    """Each run logs the versions of all packages and compilers, which takes seconds to find."""
    monkeypatch.setattr(runner, 'collect_env', collect_env_once)


@pytest.fixture
def make(tmp_path):
    def make(kind):
        path, marker = tmp_path / 'hostile.pth', tmp_path / 'it_ran'
        KINDS[kind](path, marker)
        return path, marker

    return make


@pytest.mark.parametrize('kind', KINDS)
def test_a_checkpoint_runs_nothing(make, kind):
    path, marker = make(kind)
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    allowed = set(getattr(torch.serialization, 'get_safe_globals', list)())
    for read in (load_pth, lambda path: read_weights(str(path)), read_checkpoint):
        if kind.startswith('array') and read is not read_checkpoint:
            # Inert: what is made of it holds no array.
            continue
        with pytest.raises(ValueError) as refused:
            read(path, **({'whole': True} if read is read_checkpoint else {}))
        assert str(path) in str(refused.value) and '\n' not in str(refused.value)
        assert read is not load_pth or isinstance(refused.value, RefusedFileError)
        assert not marker.exists()
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults
    assert set(getattr(torch.serialization, 'get_safe_globals', list)()) == allowed
    if kind in RUN:
        # The test can fail: upstream's way runs it.
        if kind == 'plain pickle':
            pickle.loads(path.read_bytes())
        elif kind.startswith('TorchScript'):
            torch.jit.load(str(path))
        else:
            torch.load(path, weights_only=False)
        assert marker.exists()


def timm_folder(path, marker, kind, name):
    path.mkdir()
    KINDS[kind](path / name, marker)
    config = dict(architecture='vit_tiny_patch16_224', pretrained_cfg=dict(num_classes=1000))
    (path / 'config.json').write_text(json.dumps(config))
    return path


@pytest.mark.parametrize('kind', ['pickle', 'TorchScript', 'damaged'])
@pytest.mark.parametrize('name', ['pytorch_model.bin', 'a.pth', 'a.pth.tar'])
@pytest.mark.parametrize('scheme', ['', 'timm://local-dir:'])
def test_a_folder_of_timm_runs_nothing(tmp_path, kind, name, scheme):
    folder, marker = tmp_path / 'folder', tmp_path / 'it_ran'
    timm_folder(folder, marker, kind, name)
    with pytest.raises(RefusedFileError) as refused:
        read_weights(f'{scheme}{folder}')
    assert str(folder / name) in str(refused.value) and '\n' not in str(refused.value)
    assert not marker.exists()


@pytest.mark.parametrize('name', ['pytorch_model.bin', 'other.pth'])
def test_a_repository_of_the_hub_runs_nothing(tmp_path, monkeypatch, name):
    marker = tmp_path / 'it_ran'
    folder = timm_folder(tmp_path / 'folder', marker, 'TorchScript', name)
    config = json.loads((folder / 'config.json').read_text())
    if name == 'other.pth':
        # The repository's own config may name the file.
        config['pretrained_cfg']['hf_hub_filename'] = name
        (folder / 'config.json').write_text(json.dumps(config))

    # In place of the network, which tests do not have.
    def download(repo_id, filename, **kwargs):
        if not (folder / filename).is_file():
            raise EntryNotFoundError(f'{filename} is not in {repo_id}')
        return str(folder / filename)

    monkeypatch.setattr(timm.models._hub, 'hf_hub_download', download)
    with pytest.raises(ValueError, match='hf-hub:a/b') as refused:
        read_weights('timm://hf-hub:a/b')
    assert not marker.exists()
    if digit_version(torch.__version__) < digit_version('2.6'):
        assert 'has no model.safetensors' in str(refused.value)
        # Of a repository that has one, timm takes that.
        network = timm.create_model('vit_tiny_patch16_224')
        save_file(network.state_dict(), folder / 'model.safetensors')
        weights = read_weights('timm://hf-hub:a/b').tensors
        assert torch.equal(weights['cls_token'], network.cls_token)
        assert not marker.exists()


@pytest.mark.parametrize('kind', ['array of pointers', 'array over a buffer'])
def test_arrays_of_objects_stay_inert(make, kind):
    path, _ = make(kind)
    (origin,) = placeholders_in(load_pth(path))
    assert origin.startswith('numpy.')


def test_a_file_that_refers_to_itself_a_million_times_is_read_at_once(tmp_path):
    content = []
    for _ in range(60):
        content = [content, content]
    torch.save(dict(model=content), tmp_path / 'a.pth')
    assert placeholders_in(load_pth(tmp_path / 'a.pth')) == set()
    content.append(content)
    torch.save(dict(model=content), tmp_path / 'a.pth')
    load_pth(tmp_path / 'a.pth')


@pytest.fixture(scope='module')
def good(repo, tmp_path_factory):
    """Weights of the sample config, as a run would save them."""
    cfg = Config.fromfile(repo / CONFIG)
    init_default_scope('mmseg')
    path = tmp_path_factory.mktemp('good') / 'good.pth'
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(), meta={}), path)
    return path


def train(*arguments):
    return lambda path, good, image, config, root: (
        'train.py',
        config,
        '--work-dir',
        path.parent / 'run',
        *(argument.format(path=path) for argument in arguments),
        *(() if '--cfg-options' in arguments else ('--cfg-options',)),
        *(f'{split}_dataloader.dataset.data_root={root}/' for split in ('train', 'val', 'test')),
    )


DOORS = {
    'load_from': train('--cfg-options', 'load_from={path}'),
    'resume': train('--resume', '{path}'),
    'backbone': train('--backbone', '{path}'),
    'Pretrained': train(
        '--cfg-options',
        'model.decode_head.init_cfg.type=Pretrained',
        'model.decode_head.init_cfg.checkpoint={path}',
        'model.decode_head.init_cfg.prefix=decode_head.',
    ),
    'test': lambda path, good, image, config, root: (
        *('test.py', config, path, '--work-dir', path.parent / 'run'),
        *('--cfg-options', f'test_dataloader.dataset.data_root={root}/'),
    ),
    'predict': lambda path, good, image, config, root: (
        *('predict.py', image, config, path, '--out', path.parent / 'out'),
    ),
    'compare': lambda path, good, image, config, root: (
        *('analysis_tools/compare.py', config, good, path, '--out', path.parent / 'out'),
        *('--cfg-options', f'test_dataloader.dataset.data_root={root}/'),
    ),
    'inspect': lambda path, good, image, config, root: (
        *('analysis_tools/pe_similarity.py', '--model', config, path),
        *('--out', path.parent / 'out'),
    ),
    'convert': lambda path, good, image, config, root: (
        *('model_converters/convert_vit.py', path, path.parent / 'out.pth'),
    ),
    'draw': lambda path, good, image, config, root: (
        *('draw_predictions.py', config, path, path.parent / 'out.png'),
        *('--cfg-options', f'test_dataloader.dataset.data_root={root}/'),
    ),
}


@pytest.mark.parametrize('door', DOORS)
def test_every_door_refuses(run_refused, make, good, sample_data, door):
    image = next((sample_data / 'images/val').iterdir())
    kinds = ['pickle', 'TorchScript that is no zip', 'state of a function', 'deep', 'damaged']
    # Those of a run take seconds each.
    slow = ('load_from', 'resume', 'backbone', 'Pretrained', 'test', 'compare')
    for kind in kinds[:2] if door in slow else kinds:
        path, marker = make(kind)
        message = run_refused(*DOORS[door](path, good, image, CONFIG, sample_data))
        assert f'cannot read {path}' in message and not marker.exists()
