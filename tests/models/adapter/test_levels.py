"""Tokens of a pyramid, and reference points."""

import pytest
import torch

from mmpvg.models.adapter import Level, flatten_maps, get_reference_points, unflatten_tokens


def test_tokens_are_the_maps_one_after_the_other():
    levels = [Level((3, 5), 8), Level((2, 3), 16)]
    maps = [torch.rand(2, 4, *level.grid) for level in levels]
    tokens = flatten_maps(maps)
    assert tokens.shape == (2, 15 + 6, 4)
    assert torch.equal(tokens[:, 7], maps[0][:, :, 1, 2])
    assert torch.equal(tokens[:, 15 + 4], maps[1][:, :, 1, 1])
    for restored, original in zip(unflatten_tokens(tokens, levels), maps):
        assert torch.equal(restored, original)


@pytest.mark.parametrize(('height', 'width'), [(64, 96), (50, 77)])
def test_reference_points_are_the_centers_in_pixels(height, width):
    def level(stride):
        return Level((-(-height // stride), -(-width // stride)), stride)

    queries, keys = [level(8), level(16), level(32)], [level(16), level(32)]
    points = get_reference_points(queries, keys)
    assert points.shape == (1, sum(query.size for query in queries), 2, 2)
    at = 0
    for query in queries:
        for row in range(query.grid[0]):
            for column in range(query.grid[1]):
                for index, key in enumerate(keys):
                    # In cells of the key map, whatever its size.
                    x, y = (points[0, at, index] * torch.tensor(key.grid).flip(0)).tolist()
                    assert x * key.stride == pytest.approx((column + 0.5) * query.stride)
                    assert y * key.stride == pytest.approx((row + 0.5) * query.stride)
                at += 1
