"""Shared data and paths of the test suite."""

import gc
import importlib.util
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items):
    """Files with slow tests come first, so that several processes end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope='session', autouse=True)
def each_config_is_formatted_once():
    """mmengine lets yapf format the same config for every checkpoint and log, a second each."""
    from mmengine.config import config
    from yapf.yapflib import yapf_api

    format_code, formatted = yapf_api.FormatCode, {}

    def format_once(text, **kwargs):
        key = (text, repr(kwargs))
        if key not in formatted:
            formatted[key] = format_code(text, **kwargs)
        return formatted[key]

    # Older mmengines take it by name.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', format_once)
        patch.setattr(config, 'FormatCode', format_once, raising=False)
        yield


@pytest.fixture(scope='module', autouse=True)
def garbage_is_not_sought_in_what_is_imported():
    """mmengine collects garbage for every data set, which takes long with all upstreams loaded."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_default_scope():
    """mmengine keeps the default scope of the last config, also of a fixture of a whole module."""
    from mmengine.registry import DefaultScope

    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def signals_end_with_the_test():
    """Programs inherit an ignored signal, so one that a run left ignored would reach no script."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture(scope='session')
def repo() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture
def run_tool(repo, monkeypatch):
    """Run a script of tools/ in this process: ``run_tool('analysis_tools/x.py', *arguments)``."""

    def run(script, *arguments):
        path = str(repo / 'tools' / script)
        monkeypatch.setattr('sys.argv', [path, *map(str, arguments)])
        runpy.run_path(path, run_name='__main__')

    return run


@pytest.fixture
def run_module(monkeypatch):
    """Run ``python -m NAME`` in this process: ``run_module('benchmarks.speed', *arguments)``."""

    def run(name, *arguments):
        monkeypatch.setattr('sys.argv', [name, *map(str, arguments)])
        runpy.run_module(name, run_name='__main__')

    return run


@pytest.fixture
def run_refused(run_tool, repo, monkeypatch, capsys):
    """Run a script that refuses a file; returns what it says at its end, which is no traceback."""
    from mmengine.runner import CheckpointLoader

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


@pytest.fixture(scope='session')
def digits_data(tmp_path_factory) -> Path:
    """The digits, cut to 16 images a class to train on and one to validate on."""
    from mmpvg.datasets.sample import make_digits_dataset

    folder = tmp_path_factory.mktemp('data') / 'digits'
    make_digits_dataset(folder)
    for split, kept in (('train', 16), ('val', 1)):
        for digit in (folder / split).iterdir():
            for image in sorted(digit.iterdir())[kept:]:
                image.unlink()
    return folder


@pytest.fixture(scope='session')
def sample_data(tmp_path_factory) -> Path:
    """A small sample data set: 16 images to train on, 4 to test on."""
    from mmpvg.datasets.sample import make_sample_dataset

    folder = tmp_path_factory.mktemp('data') / 'sample'
    make_sample_dataset(folder, num_train=16, num_val=4, progress=False)
    return folder


@pytest.fixture
def make_vit():
    """Make a network of three blocks in which no norm is the identity and no bias is zero."""

    import torch

    from mmpvg.models import MPVGViT

    def make(pe_delivery='mpvg', **kwargs):
        torch.manual_seed(0)
        arch = dict(embed_dims=16, num_layers=3, num_heads=2)
        kwargs = {**dict(arch=arch, img_size=32, patch_size=8), **kwargs}
        vit = MPVGViT(pe_delivery=pe_delivery, **kwargs).eval()
        with torch.no_grad():
            for parameter in vit.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return vit

    return make


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written meanwhile."""
    from matplotlib.figure import Figure

    written, save = [], Figure.savefig

    def keep(figure, *args, **kwargs):
        written.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', keep)
    return written


@pytest.fixture(scope='session')
def tiny_run(repo):
    """Builds a runner of three weights; what is not given is as small as it can be."""
    spec = importlib.util.spec_from_file_location('tiny_run', repo / 'tests/tiny_run.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build.data = module.Numbers
    return module.build


@pytest.fixture(scope='session')
def run_two_processes(repo):
    """Runs a script of tests/ in two gloo processes, which must end well."""

    def run(worker, *arguments):
        launcher = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
        done = subprocess.run(
            [*launcher, '--nproc_per_node=2', ROOT / 'tests' / worker, *arguments],
            env={**os.environ, 'PYTHONPATH': str(repo), 'OMP_NUM_THREADS': '1'},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return run
