"""The names that mmcv asks for, what is said of those that are not there, and the environment."""

import ast
import importlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks.ops.swap import operators
from mmpvg.ops import extension

MMCV = Path(find_spec('mmcv').submodule_search_locations[0])


def asked_for():
    """Names that the installed mmcv asks its extension for."""
    names = set()
    for path in (MMCV / 'ops').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, 'attr', None) == 'load_ext':
                names.update(ast.literal_eval(node.args[1]))
    return sorted(names)


def test_every_name_that_mmcv_asks_for_is_there():
    names = asked_for()
    assert len(names) > 100
    assert set(extension.__all__) <= set(names)
    for name in names:
        operator = getattr(extension, name)
        assert callable(operator) and operator.__name__ == name
        if name not in extension.__all__:
            with pytest.raises(NotImplementedError) as caught:
                operator(1, key=2)
            assert str(caught.value) == (
                f"mmcv's operator {name} is not in the compiler-free operators: "
                'run `bash tools/setup_env.sh --ops compiled`.'
            )


def test_private_names_are_not_made_up():
    """Python asks modules for some, __path__ for one."""
    assert not hasattr(extension, '__path__')
    with pytest.raises(AttributeError, match='_operator'):
        extension._operator  # noqa: B018


def test_the_docs_name_every_operator(repo):
    text = (repo / 'docs/operators.md').read_text()
    missing = [name for name in asked_for() if f'`{name}`' not in text]
    assert not missing


def test_the_docs_do_not_call_lacking_ones_present(repo):
    there, lacking = (repo / 'docs/operators.md').read_text().split('## Not there')
    for name in asked_for():
        assert f'`{name}`' in (there if name in extension.__all__ else lacking), name


def test_versions_are_strings():
    from mmpvg.version import __version__

    assert extension.get_compiler_version().endswith(f'of mmpvg {__version__})')
    expected = torch.version.cuda or 'not available'
    # torchvision is built with the CUDA that torch is.
    assert extension.get_compiling_cuda_version() == expected


def test_mmcv_and_upstream_run_on_the_written_file_alone(tmp_path):
    """As after `python -m mmpvg.ops install` into an mmcv without operators."""
    from mmpvg.ops.state import SOURCE

    code = f"""
import importlib.abc, importlib.util, sys

class Ours(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == 'mmcv._ext':
            return importlib.util.spec_from_file_location(name, {str(tmp_path / '_ext.py')!r})

sys.meta_path.insert(0, Ours())
import mmcv._ext
import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, mmpvg.models
import torch
from mmcv.ops import nms, roi_pool
from mmpvg.ops import boxes
assert mmcv._ext.nms is boxes.nms
assert mmcv._ext.__file__ == {str(tmp_path / '_ext.py')!r}
print(nms(torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]]), torch.tensor([.5, .6]), 0.5)[1].tolist())
try:
    roi_pool(torch.rand(1, 1, 4, 4), torch.tensor([[0., 0, 0, 2, 2]]), (2, 2))
except NotImplementedError as error:
    print(error)
"""
    (tmp_path / '_ext.py').write_text(SOURCE)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *_, kept, sentence = done.stdout.strip().splitlines()
    assert kept == '[1]'
    assert 'roi_pool_forward is not in the compiler-free operators' in sentence


def test_operators_can_be_swapped_for_a_while():
    """What comparisons of both sets rest on."""
    from mmcv.ops import RoIAlign

    module = importlib.import_module('mmcv.ops.roi_align')
    before = module.ext_module

    class Broken:
        def roi_align_forward(self, *args, **kwargs):
            raise ZeroDivisionError

    pool, x, rois = RoIAlign(2), torch.rand(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]])
    with pytest.raises(ZeroDivisionError), operators(Broken()):
        pool(x, rois)
    assert module.ext_module is before
    with operators(extension):
        assert pool(x, rois).shape == (1, 1, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize('config', ['mask_rcnn_vit_mpvg_sample', 'upernet_vit-adapter_mpvg_sample'])
def test_first_losses_are_those_of_compiled_mmcv(compiled, repo, sample_data, config):
    from mmengine.config import Config

    from benchmarks.ops.first_losses import first_losses

    cfg = Config.fromfile(repo / f'configs/sample/{config}.py')
    cfg.train_dataloader.dataset.data_root = str(sample_data)
    cfg.train_dataloader.batch_size = 2
    ours, theirs = (first_losses(cfg, ext, 5) for ext in (extension, compiled))
    assert len(ours) == 5 and all(ours)
    for a, b in zip(ours, theirs):
        assert a == pytest.approx(b, abs=1e-4)
