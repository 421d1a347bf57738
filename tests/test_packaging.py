"""The wheel carries configs and tools the OpenMMLab way, and the README's config is right."""

import os
import re
import subprocess
import sys
import zipfile

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope


@pytest.fixture(scope='module')
def wheel(repo, tmp_path_factory):
    """A wheel built from a copy of the tracked and new files, unpacked."""
    folder = tmp_path_factory.mktemp('wheel')
    listed = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'],
        cwd=repo,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split('\n')
    source = folder / 'source'
    for name in filter(None, listed):
        if (repo / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((repo / name).read_bytes())
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
        + ['-w', folder, source],
        check=True,
    )
    (file,) = folder.glob('mmpvg-*.whl')
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / 'site')
    return folder / 'site'


@pytest.mark.slow
def test_wheel_carries_configs_and_tools(wheel, repo):
    mim = wheel / 'mmpvg' / '.mim'
    for folder in ('configs', 'tools'):
        here = {p.relative_to(repo) for p in (repo / folder).rglob('*.*') if p.suffix != '.pyc'}
        there = {p.relative_to(mim) for p in (mim / folder).rglob('*.*')}
        assert here == there
    assert (mim / 'model-index.yml').exists()


@pytest.mark.slow
def test_configs_of_the_wheel_can_be_inherited(wheel, tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmpvg::_base_/models/mask_rcnn_mpvg.py'\n"
        "model = dict(backbone=dict(pe_delivery='lape'))\n"
    )
    code = (
        'import mmpvg.registry\n'
        'from mmengine.config import Config\n'
        "cfg = Config.fromfile('mine.py')\n"
        'print(mmpvg.__file__, cfg.model.type, cfg.model.backbone.pe_delivery)\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(wheel)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    path, *rest = done.stdout.split()[-3:]
    assert path.startswith(str(wheel)) and rest == ['MaskRCNN', 'lape']


def test_the_config_in_the_readme_builds(repo, tmp_path):
    readme = (repo / 'README.md').read_text()
    (block,) = re.findall(r"```python\n(_base_ = 'mmdet::.*?)```", readme, re.DOTALL)
    assert len(block.splitlines()) <= 10
    (tmp_path / 'mine.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    cfg.model.backbone.pop('init_cfg', None)
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    assert type(model.backbone).__name__ == 'MPVGViT'
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.05)


def test_the_script_in_the_readme_runs(repo):
    readme = (repo / 'README.md').read_text()
    (block,) = re.findall(r'```python\n(import torch\n.*?)```', readme, re.DOTALL)
    found = {}
    exec(block, found)
    assert [tuple(m.shape) for m in found['maps']] == [(1, 384, 32, 21)] * 4
