"""Stochastic depth."""

import pytest
import torch

from mmpvg.models.layers import DropPath


def test_drops_whole_samples_and_keeps_the_expectation():
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(20000, 3, 2))
    assert out.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)


def test_is_the_identity_when_testing():
    x = torch.randn(4, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


@pytest.mark.parametrize('rate', [-0.1, 1.0])
def test_bad_rate(rate):
    with pytest.raises(ValueError, match=str(rate)):
        DropPath(rate)
