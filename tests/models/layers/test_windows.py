"""Window partition of a grid, and its inverse."""

import pytest
import torch

from mmpvg.models.layers import window_partition, window_regions, window_unpartition

GRIDS = [(14, 14), (28, 42), (9, 17), (15, 14), (14, 15), (3, 5), (64, 64), (1, 30)]


@pytest.mark.parametrize('grid', GRIDS)
def test_every_token_is_in_the_window_of_its_place(grid):
    h, w = grid
    places = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij'), dim=-1)
    seen = torch.zeros(grid, dtype=torch.long)
    for region in window_regions(grid, 14):
        for window in window_partition(places[None], region):
            assert len((window // 14).unique(dim=0)) == 1, 'a window mixes two cells of the grid'
            seen[window[:, 0], window[:, 1]] += 1
            # Row by row inside the window.
            flat = window[:, 0] * w + window[:, 1]
            assert torch.equal(flat, flat.sort().values)
    assert torch.equal(seen, torch.ones_like(seen))


@pytest.mark.parametrize('grid', GRIDS)
def test_unpartition_inverts_partition(grid):
    x = torch.randn(3, *grid, 4)
    again = torch.full_like(x, float('nan'))
    for region in window_regions(grid, 14):
        windows = window_partition(x, region)
        (down, across), (height, width) = region.num_windows, region.size
        assert windows.shape == (3 * down * across, height * width, 4)
        window_unpartition(windows, region, again)
    assert torch.equal(again, x)


def test_at_most_four_regions():
    assert len(window_regions((64, 64), 14)) == 4
    assert len(window_regions((28, 28), 14)) == 1
    assert len(window_regions((5, 5), 14)) == 1
