"""The documentation site builds without a warning, and the code of its tutorials runs."""

import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope


def blocks(path):
    """Python blocks of a page."""
    return re.findall(r'```python\n(.*?)```', path.read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_site_builds(repo, tmp_path):
    pytest.importorskip('mkdocs', reason='mkdocs-material has no release for Python 3.10')
    done = subprocess.run(
        [sys.executable, '-m', 'mkdocs', 'build', '--strict', '--site-dir', tmp_path / 'site'],
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    page = (tmp_path / 'site/api/models/index.html').read_text()
    assert 'MPVGViTAdapter' in page and 'interaction_indexes' in page


@pytest.mark.parametrize(('index', 'scope', 'heads'), [(0, 'mmdet', 2), (1, 'mmseg', 2)])
def test_configs_of_own_data(repo, tmp_path, index, scope, heads):
    text = blocks(repo / 'docs/tutorials/own_data.md')[index]
    # The tests may run where another checkout of mmpvg is installed.
    text = text.replace("'mmpvg::", f"'{repo}/configs/")
    (tmp_path / 'mine.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    cfg.model.backbone.init_cfg = None
    init_default_scope(scope)
    model = MODELS.build(cfg.model)
    counts = [
        m.num_classes for m in model.modules() if isinstance(getattr(m, 'num_classes', None), int)
    ]
    # The region proposal network has one class, and FCNMaskHead two.
    assert counts.count(2) >= heads and set(counts) <= {1, 2}
    for split in ('train', 'val', 'test'):
        dataset = cfg[f'{split}_dataloader'].dataset
        assert dataset.data_root == 'data/mine/' and len(dataset.metainfo['classes']) == 2


def test_a_delivery_of_ones_own(repo):
    (text,) = blocks(repo / 'docs/tutorials/pe_delivery.md')
    found = {}
    exec(text, found)
    torch.manual_seed(0)
    arch = dict(embed_dims=16, num_layers=3, num_heads=2)
    vit = found['FadingViT'](arch=arch, img_size=32, patch_size=8)
    with torch.no_grad():
        delivered = vit.deliver_pe((4, 4))
        p = vit.position_embedding((4, 4))
        for index, block in enumerate(delivered.blocks):
            if index:
                p = torch.nn.functional.layer_norm(p, p.shape[-1:], eps=1e-6)
                assert torch.allclose(block, p * 0.9**index, atol=1e-5)
        assert len(vit(torch.rand(1, 3, 32, 40))) == 1
    MODELS.children['mmpvg']._module_dict.pop('FadingViT')
