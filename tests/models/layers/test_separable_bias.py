"""Biases of a row and a column term, written to memory that is used again."""

import threading

import pytest
import torch

from mmpvg.models.layers import Attention, DecomposedRelativePosition, GaussianAttentionBias
from mmpvg.models.layers import attention as attention_module
from mmpvg.models.layers.attention import scaled_dot_product
from mmpvg.models.layers.separable_bias import SCRATCH, Scratch, separable_bias_attention

GRIDS = [(4, 7), (7, 4), (1, 5), (6, 6)]


def parts(grid, batch=2, heads=4, biased=(1, 4), seed=0):
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    q, k, v = torch.randn(3, batch, heads, n, 8, generator=generator)
    rows, columns = (torch.randn(*biased, n, side, generator=generator) for side in grid)
    return q, k, v, rows, columns


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('biased', [(1, 1), (1, 4), (2, 1), (2, 4)])
@pytest.mark.parametrize('combine', [torch.add, torch.mul])
@pytest.mark.parametrize('limit', [0, 3 * 28**2 * 4, 2**20])
def test_it_is_the_equation(grid, biased, combine, limit):
    q, k, v, rows, columns = parts(grid, biased=biased)
    bias = torch.zeros(*biased, len(q[0, 0]), len(q[0, 0]))
    for y in range(grid[0]):
        for x in range(grid[1]):
            bias[..., y * grid[1] + x] = combine(rows[..., y], columns[..., x])
    wanted = scaled_dot_product(q, k, v, False, bias)
    with torch.no_grad():
        found = separable_bias_attention(q, k, v, rows, columns, combine, Scratch(limit))
    assert torch.allclose(found, wanted, atol=1e-5)


@torch.no_grad()
def test_results_outlive_the_memory():
    scratch = Scratch()
    first = separable_bias_attention(*parts((6, 6)), torch.add, scratch)
    kept = first.clone()
    separable_bias_attention(*parts((6, 6), seed=1), torch.add, scratch)
    assert torch.equal(first, kept)


def test_memory_is_used_again_and_bounded():
    scratch = Scratch(limit=4000)
    first = scratch.take((10, 100), torch.float32)
    assert first.shape == (10, 100) and first.dtype == torch.float32
    again = scratch.take((500,), torch.bfloat16)
    assert again.data_ptr() == first.data_ptr()
    large = scratch.take((1001,), torch.float32)
    assert large.data_ptr() != first.data_ptr() and len(scratch._memory) == 4000
    scratch.clear()
    assert len(scratch._memory) == 0


def test_threads_do_not_share_it():
    places = [SCRATCH.take((8,), torch.float32).data_ptr()]
    thread = threading.Thread(
        target=lambda: places.append(SCRATCH.take((8,), torch.float32).data_ptr())
    )
    thread.start()
    thread.join()
    assert len(set(places)) == 2


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('window', [0, 3])
@pytest.mark.parametrize('kind', ['block', 'head', 'decomposed'])
@pytest.mark.parametrize('context', [torch.no_grad, torch.inference_mode])
def test_attention_takes_it_and_gives_the_same(grid, window, kind, context, monkeypatch):
    torch.manual_seed(0)
    extra = dict(bias=GaussianAttentionBias(4 if kind == 'head' else 1))
    if kind == 'decomposed':
        native = (window, window) if window else (4, 4)
        extra = dict(rel_pos=DecomposedRelativePosition(native, 8, resize=not window))
        for table in extra['rel_pos'].parameters():
            torch.nn.init.normal_(table)
    calls = []
    monkeypatch.setattr(
        attention_module,
        'separable_bias_attention',
        lambda *args: calls.append(args) or separable_bias_attention(*args),
    )
    attention = Attention(32, 4, window, **extra)
    x = torch.randn(2, grid[0] * grid[1], 32)
    with context():
        found = attention(x, grid)
    assert calls
    calls.clear()
    trained = attention(x, grid)
    assert not calls and trained.requires_grad
    attention.fused = False
    wanted = attention(x, grid)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(trained, wanted, atol=1e-5)


@torch.no_grad()
def test_bfloat16():
    torch.manual_seed(0)
    attention = Attention(32, 4, bias=GaussianAttentionBias(4))
    x = torch.randn(2, 28, 32)
    wanted = attention(x, (4, 7))
    with torch.autocast('cpu', torch.bfloat16):
        found = attention(x, (4, 7))
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), wanted, atol=0.02)
