"""Shapes of the study, and some of them; all 300 are benchmarks/robustness/shape.py."""

import pytest
import torch

from benchmarks.robustness.shape_study import random_shapes, run_shape_study

CONFIGS = ('upernet_vit', 'upernet_vit-adapter', 'mask_rcnn_vit', 'mask_rcnn_vit-adapter')


def test_shapes():
    shapes = random_shapes(300)
    assert len(shapes) == 300 and shapes[:4] == [(1, 1), (1, 40), (2000, 1), (2000, 40)]
    assert all(1 <= min(s) <= 40 and max(s) <= 2000 for s in shapes)
    assert sum(h < w for h, w in shapes) > 50 < sum(h > w for h, w in shapes)
    assert random_shapes(300) == shapes != random_shapes(300, seed=1)
    with pytest.raises(ValueError, match='4 or more shapes, got 3'):
        random_shapes(3)


@pytest.mark.parametrize('name', CONFIGS)
def test_no_shape_breaks_a_model(repo, name):
    config = repo / f'configs/sample/{name}_mpvg_sample.py'
    results = list(run_shape_study(config, [(1, 1), (1, 300), (200, 3), (37, 90)]))
    assert [result.error for result in results] == [None] * 4
    assert [result.not_finite for result in results] == [()] * 4


def test_what_is_wrong_is_reported(repo, monkeypatch):
    config = repo / 'configs/sample/upernet_vit_mpvg_sample.py'
    from mmpvg.models import MPVGViT

    forward = MPVGViT.forward
    monkeypatch.setattr(
        MPVGViT, 'forward', lambda self, x: [m * float('nan') for m in forward(self, x)]
    )
    (result,) = run_shape_study(config, [(16, 24)])
    assert 'decode.loss_ce' in result.not_finite and 'seg_logits' in result.not_finite

    def fail(self, x):
        raise RuntimeError('no such shape')

    monkeypatch.setattr(MPVGViT, 'forward', fail)
    (result,) = run_shape_study(config, [(16, 24)])
    assert result.error == 'RuntimeError: no such shape' and torch.is_grad_enabled()
