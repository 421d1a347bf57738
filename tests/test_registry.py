"""``type='mmpvg.X'`` builds from every scope, in either order, without custom_imports."""

import subprocess
import sys

import pytest

BUILD = {
    'mmdet': 'from mmdet.registry import MODELS as M; from mmdet.registry import HOOKS as H; '
    'from mmengine.registry import DefaultScope; '
    "DefaultScope.get_instance('det', scope_name='mmdet'); ",
    'mmseg': 'from mmseg.registry import MODELS as M; from mmseg.registry import HOOKS as H; '
    'from mmengine.registry import DefaultScope; '
    "DefaultScope.get_instance('seg', scope_name='mmseg'); ",
    'none': 'from mmengine.registry import MODELS as M, HOOKS as H; ',
}
USE = (
    'arch = dict(embed_dims=48, num_layers=2, num_heads=3); '
    "b = M.build(dict(type='mmpvg.MPVGViT', arch=arch)); "
    "n = M.build(dict(type='mmpvg.SimpleFeaturePyramid', in_channels=48)); "
    "h = H.build(dict(type='mmpvg.ClassCountCheckHook')); "
    'print(type(b).__module__, type(n).__name__, type(h).__name__); '
)


@pytest.mark.slow
@pytest.mark.parametrize(
    'order',
    [('mmdet', 'mmseg', 'none'), ('mmseg', 'mmdet'), ('none', 'mmdet'), ('none', 'mmseg')],
    ids='-'.join,
)
def test_builds_from_every_scope(order):
    code = ''.join(BUILD[scope] + USE for scope in order)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    line = 'mmpvg.models.backbones.mpvg_vit SimpleFeaturePyramid ClassCountCheckHook'
    assert done.stdout.count(line) == len(order)


@pytest.mark.parametrize('module', ['mmpvg.models', 'mmpvg.apis.cli'])
def test_a_missing_mmengine_is_named_in_a_sentence(module):
    code = f"import sys; sys.modules['mmengine'] = None; import {module}"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode and 'PackageError: mmengine is not installed: run `pip ' in last


def test_importing_mmpvg_imports_nothing_heavy():
    code = (
        'import sys, mmpvg; '
        "heavy = {'torch', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'timm'} & set(sys.modules); "
        'assert not heavy, heavy'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
