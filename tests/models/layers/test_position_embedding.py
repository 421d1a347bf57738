"""The PE table: resize, sinusoids, loading."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmpvg.models.layers import (
    PositionEmbedding,
    resize_position_embedding,
    sinusoid_1d,
    sinusoid_2d,
)


def cubic_weights(t, a=-0.75):
    """Keys' cubic convolution kernel at distance |t|, with PyTorch's a."""
    t = np.abs(t)
    inner = (a + 2) * t**3 - (a + 3) * t**2 + 1
    outer = a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, inner, np.where(t < 2, outer, 0.0))


def bicubic_matrix(size_in, size_out):
    """(size_out, size_in): half-pixel centers, clamped borders, no antialiasing."""
    matrix = np.zeros((size_out, size_in))
    for row in range(size_out):
        center = (row + 0.5) * size_in / size_out - 0.5
        for sample in range(int(np.floor(center)) - 1, int(np.floor(center)) + 3):
            matrix[row, min(max(sample, 0), size_in - 1)] += cubic_weights(center - sample)
    return matrix


@pytest.mark.parametrize('source', [(14, 14), (7, 20)])
@pytest.mark.parametrize('grid', [(50, 76), (8, 8), (16, 64), (3, 1), (14, 15)])
def test_resize_is_bicubic_without_antialias(source, grid):
    table = torch.randn(1, *source, 6)
    rows, cols = bicubic_matrix(source[0], grid[0]), bicubic_matrix(source[1], grid[1])
    expected = np.einsum('yh,xw,hwd->yxd', rows, cols, table[0].numpy().astype(np.float64))
    resized = resize_position_embedding(table, grid)
    np.testing.assert_allclose(resized[0].numpy(), expected, atol=2e-5)


def test_resize_at_the_own_grid_is_the_same_tensor():
    table = torch.randn(1, 14, 9, 4)
    assert resize_position_embedding(table, (14, 9)) is table


def test_resize_tells_grids_of_equal_token_count_apart():
    table = torch.randn(1, 32, 32, 4)
    assert resize_position_embedding(table, (16, 64)).shape == (1, 16, 64, 4)
    transposed = resize_position_embedding(table, (64, 16))
    assert not torch.allclose(
        resize_position_embedding(table, (16, 64)).flatten(1, 2), transposed.flatten(1, 2)
    )
    assert not torch.allclose(
        resize_position_embedding(table, (16, 64)).flatten(1, 2), table.flatten(1, 2)
    )


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_resize_computes_in_float32(dtype):
    table = torch.randn(1, 14, 14, 8).to(dtype)
    expected = resize_position_embedding(table.float(), (20, 33)).to(dtype)
    resized = resize_position_embedding(table, (20, 33))
    assert resized.dtype == dtype
    assert torch.equal(resized, expected)


def test_resize_mode_is_used():
    table = torch.randn(1, 4, 4, 2)
    nearest = resize_position_embedding(table, (8, 8), 'nearest')
    assert torch.equal(nearest, table.repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize(
    ('shape', 'grid', 'message'),
    [((1, 196, 8), (14, 14), r'\(1, 196, 8\)'), ((1, 14, 14, 8), (0, 3), r'\(0, 3\)')],
)
def test_resize_refuses_what_it_cannot_do(shape, grid, message):
    with pytest.raises(ValueError, match=message):
        resize_position_embedding(torch.zeros(shape), grid)


def test_sinusoid_1d_is_vaswani():
    table = sinusoid_1d(30, 8)
    for pos in (0, 1, 29):
        for i in range(4):
            angle = pos / 10000 ** (2 * i / 8)
            assert table[pos, 2 * i].item() == pytest.approx(np.sin(angle), abs=1e-6)
            assert table[pos, 2 * i + 1].item() == pytest.approx(np.cos(angle), abs=1e-6)


def test_sinusoid_2d_gives_half_the_channels_to_each_axis():
    table = sinusoid_2d((5, 9), 16)
    assert table.shape == (5, 9, 16)
    # Width first: constant down a column; then height: constant along a row.
    assert torch.equal(table[0, :, :8], table[4, :, :8])
    assert torch.equal(table[:, 0, 8:], table[:, 8, 8:])
    for y, x, i in [(3, 7, 2), (4, 0, 3)]:
        frequency = 10000.0 ** (-i / 4)
        assert table[y, x, 2 * i].item() == pytest.approx(np.sin(x * frequency), abs=1e-6)
        assert table[y, x, 2 * i + 1].item() == pytest.approx(np.cos(x * frequency), abs=1e-6)
        assert table[y, x, 8 + 2 * i].item() == pytest.approx(np.sin(y * frequency), abs=1e-6)
        assert table[y, x, 9 + 2 * i].item() == pytest.approx(np.cos(y * frequency), abs=1e-6)


@pytest.mark.parametrize(('pe_type', 'dims'), [('sinusoid_1d', 7), ('sinusoid_2d', 6)])
def test_sinusoid_needs_fitting_channels(pe_type, dims):
    with pytest.raises(ValueError, match=f'got {dims}'):
        PositionEmbedding((4, 4), dims, pe_type)


def test_unknown_type():
    with pytest.raises(ValueError, match="'rope'.*learnable"):
        PositionEmbedding((4, 4), 8, 'rope')


def test_learnable_initialization():
    torch.manual_seed(0)
    pe = PositionEmbedding((64, 64), 32, cls_token=True)
    assert pe.table.std().item() == pytest.approx(0.02, rel=0.02)
    assert pe.cls_row.std().item() == pytest.approx(0.02, rel=0.4)
    assert pe.no_weight_decay() == {'table', 'cls_row'}


@pytest.mark.parametrize('pe_type', ['sinusoid_1d', 'sinusoid_2d'])
def test_sinusoids_are_fixed_and_not_saved(pe_type):
    pe = PositionEmbedding((4, 5), 8, pe_type, cls_token=True)
    assert not list(pe.parameters())
    assert not pe.state_dict()
    rows = pe((4, 5))
    assert rows.shape == (1, 21, 8)
    if pe_type == 'sinusoid_1d':
        assert torch.equal(rows[0], sinusoid_1d(21, 8))
    else:
        assert torch.equal(rows[0, 0], torch.zeros(8))
        assert torch.equal(rows[0, 1:], sinusoid_2d((4, 5), 8).flatten(0, 1))


def test_class_token_row_is_not_resized():
    pe = PositionEmbedding((4, 4), 8, cls_token=True)
    rows = pe((3, 7))
    assert rows.shape == (1, 22, 8)
    assert torch.equal(rows[:, :1], pe.cls_row)
    resized = F.interpolate(pe.table.permute(0, 3, 1, 2), (3, 7), mode='bicubic')
    assert torch.allclose(rows[:, 1:], resized.flatten(2).transpose(1, 2))


def test_loading_from_another_grid_resizes():
    source, target = PositionEmbedding((14, 14), 8), PositionEmbedding((9, 17), 8)
    state = source.state_dict()
    before = state['table'].clone()
    target.load_state_dict(state)
    assert torch.equal(target.table, resize_position_embedding(source.table, (9, 17)))
    assert torch.equal(state['table'], before), "the caller's checkpoint was changed"


def test_loading_another_width_raises():
    with pytest.raises(ValueError, match=r'\(1, 4, 4, 8\).*\(1, h, w, 16\)'):
        PositionEmbedding((4, 4), 16).load_state_dict(PositionEmbedding((4, 4), 8).state_dict())
