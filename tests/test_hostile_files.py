"""Hostile files of every kind, through every door: none runs, none writes, each gets a sentence."""

import ast
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.io  # noqa: F401  Registers the operator that writes a file.
import yaml
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader

from mmpvg.checkpoints import RefusedFileError, load_pth, read_weights
from mmpvg.checkpoints.safe_load import placeholders_in
from mmpvg.engine.checkpoint_reading import read_checkpoint
from mmpvg.engine.inference.coco_ids import AnnotatedIds

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


@pytest.fixture
def run_door(run_tool, repo, monkeypatch, capsys):
    """Run a script; returns what it says at its end, which is no traceback."""
    monkeypatch.chdir(repo)
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))

    def run(*command):
        with pytest.raises(SystemExit) as ended:
            run_tool(*command)
        assert ended.value.code == 2
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert 'error: ' in last
        return last

    return run


@pytest.mark.parametrize('door', DOORS)
def test_every_door_refuses(run_door, make, good, sample_data, door):
    image = next((sample_data / 'images/val').iterdir())
    kinds = ['pickle', 'TorchScript that is no zip', 'state of a function', 'deep', 'damaged']
    # Those of a run take seconds each.
    slow = ('load_from', 'resume', 'backbone', 'Pretrained', 'test', 'compare')
    for kind in kinds[:2] if door in slow else kinds:
        path, marker = make(kind)
        told = run_door(*DOORS[door](path, good, image, CONFIG, sample_data))
        assert f'cannot read {path}' in told and not marker.exists()


YAML = '!!python/object/apply:os.mkdir ["{}"]'


@pytest.mark.parametrize('door', ['train.py', 'test.py', 'misc/check_dataset.py', 'compare'])
@pytest.mark.parametrize('suffix', ['.yaml', '.pkl'])
def test_annotations_run_nothing(run_door, good, sample_data, tmp_path, door, suffix):
    path, marker = tmp_path / f'annotations{suffix}', tmp_path / 'it_ran'
    if suffix == '.pkl':
        path.write_bytes(pickle.dumps(Call(os.mkdir, str(marker))))
    else:
        path.write_text(YAML.format(marker))
    split = 'train' if door in ('train.py', 'misc/check_dataset.py') else 'test'
    command = {
        'test.py': ('test.py', CONFIG, good, '--work-dir', tmp_path / 'run'),
        'train.py': ('train.py', CONFIG, '--work-dir', tmp_path / 'run'),
        'compare': ('analysis_tools/compare.py', CONFIG, good, good, '--names', 'a', 'b')
        + ('--out', tmp_path / 'out'),
    }.get(door, (door, CONFIG))
    told = run_door(
        *command,
        *('--cfg-options', f'{split}_dataloader.dataset.data_root={sample_data}/'),
        f'{split}_dataloader.dataset.ann_file={path}',
    )
    assert f'{split}_dataloader.dataset.ann_file is {path}' in told and 'any code' in told
    assert not marker.exists()
    # The test can fail.
    yaml.unsafe_load(path.read_text()) if suffix == '.yaml' else pickle.loads(path.read_bytes())
    assert marker.exists()


def test_a_config_in_yaml_is_not_read(run_door, tmp_path):
    (tmp_path / 'config.yaml').write_text(YAML.format(tmp_path / 'it_ran'))
    told = run_door('misc/check_dataset.py', tmp_path / 'config.yaml')
    assert 'can run any code' in told and not (tmp_path / 'it_ran').exists()


def test_deep_json_is_refused(tmp_path):
    (tmp_path / 'deep.json').write_text('[' * 100_000)
    with pytest.raises(ValueError, match='deep.json is no COCO annotation file.*RecursionError'):
        AnnotatedIds(['a'], tmp_path / 'deep.json')
    with pytest.raises(RecursionError):
        json.loads((tmp_path / 'deep.json').read_text())


def test_arrays_that_would_unpickle_are_refused(tmp_path):
    marker = tmp_path / 'it_ran'
    np.savez(tmp_path / 'a.npz', a=np.array([Call(os.mkdir, str(marker))], dtype=object))
    with pytest.raises(ValueError, match='no AugReg file'):
        read_weights(str(tmp_path / 'a.npz'))
    assert not marker.exists()


# Where each may stand.
READERS = {
    'torch.load': 'mmpvg/checkpoints/safe_load.py',
    'pickle': 'mmpvg/checkpoints/unpickler.py',
    'np.load': 'mmpvg/checkpoints/augreg.py',
}
FORBIDDEN = set(
    """
    torch.jit.load torch.hub.load torch.hub.load_state_dict_from_url torch.serialization.load
    numpy.load yaml.load yaml.load_all yaml.full_load yaml.unsafe_load yaml.Loader
    eval exec __import__ dill shelve marshal joblib cloudpickle
    mmengine.load mmengine.fileio.load Config.fromstring CheckpointLoader.load_checkpoint
    mmengine.runner.load_checkpoint mmengine.runner.checkpoint.load_checkpoint
    mmengine.runner.checkpoint._load_checkpoint
    """.split()
)


def readers_in(source):
    """What a program could read files with that run code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names] + [node.module or '']
        elif isinstance(node, (ast.Attribute, ast.Name)):
            names = [ast.unparse(node)]
        else:
            continue
        yield from (name for name in names if name in FORBIDDEN or name in READERS)
        if isinstance(node, ast.ImportFrom) and node.module in ('torch', 'numpy', 'pickle', 'yaml'):
            yield from (n for n in names if n.split('.')[-1] in ('load', 'loads', 'Unpickler'))


def test_nothing_else_in_the_project_reads_such_files(repo):
    files = [path for folder in ('mmpvg', 'tools') for path in (repo / folder).rglob('*.py')]
    assert len(files) > 100
    for path in files:
        name = path.relative_to(repo).as_posix()
        found = set(readers_in(path.read_text(encoding='utf-8')))
        assert {reader for reader in found if READERS.get(reader) != name} == set(), name
    allowed = {'torch.load': 'weights_only', 'np.load': 'allow_pickle'}
    for reader, option in allowed.items():
        tree = ast.parse(Path(repo, READERS[reader]).read_text(encoding='utf-8'))
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
        (call,) = [call for call in calls if ast.unparse(call.func) == reader]
        (value,) = [keyword.value.value for keyword in call.keywords if keyword.arg == option]
        assert value is (option == 'weights_only')


@pytest.mark.parametrize(
    'source',
    ['import pickle', 'from pickle import load', 'torch.load(x)', 'f = np.load', 'eval("1")']
    + ['from mmengine.fileio import load', 'yaml.load(x)', 'torch.jit.load(x)', 'import dill']
    + ['from torch import load', 'mmengine.load(x)', 'from yaml import load'],
)  # fmt: skip
def test_the_search_finds_each(source):
    assert list(readers_in(source))
