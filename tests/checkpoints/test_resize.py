"""PE rows by grid arithmetic, and patch kernels of another size."""

import pytest
import timm.layers
import torch

from mmpvg.checkpoints import resize_patch_kernel, split_rows
from mmpvg.models.layers import resize_position_embedding


@pytest.mark.parametrize(
    ('num_rows', 'extra', 'grid', 'expected'),
    [
        (197, ('cls_token',), None, (1, (14, 14))),
        (196, ('cls_token',), None, (0, (14, 14))),
        (196, (), None, (0, (14, 14))),
        (198, ('cls_token', 'dist_token'), None, (2, (14, 14))),
        (1370, ('cls_token', *['register_tokens'] * 4), None, (1, (37, 37))),
        (1369, ('cls_token', *['register_tokens'] * 4), None, (0, (37, 37))),
        (1374, ('cls_token', *['register_tokens'] * 4), None, (5, (37, 37))),
        (129, ('cls_token',), (8, 16), (1, (8, 16))),
        # The network's own grid is a candidate too.
        (3 * 14 + 1, ('cls_token',), None, (1, (3, 14))),
    ],
)
def test_rows_are_told_apart_by_arithmetic(num_rows, extra, grid, expected):
    rows = torch.arange(num_rows * 2.0).view(1, num_rows, 2)
    of_token, table = split_rows(rows, extra, grid, (3, 14), 'x.pth')
    num_extra, (h, w) = expected
    assert table.shape == (1, h, w, 2)
    assert torch.equal(table.flatten(1, 2), rows[:, num_extra:])
    kept = [
        of_token[name] for name in ('cls_token', 'dist_token', 'register_tokens') if name in extra
    ]
    assert torch.equal(torch.cat([*kept, rows[:, :0]], dim=1), rows[:, :num_extra])


@pytest.mark.parametrize(
    ('num_rows', 'grid', 'native', 'message'),
    [
        (200, None, (3, 14), '200 rows.*in 0 ways'),
        (197, (13, 14), (14, 14), r'grid \(13, 14\) in 0 ways'),
        # 16x16 or the network's 8x32: only the user knows.
        (257, None, (8, 32), r'2 ways \(1 \+ 16x16 or 1 \+ 8x32\).*grid=\(h, w\)'),
    ],
)
def test_rows_that_fit_no_grid_or_two_raise(num_rows, grid, native, message):
    with pytest.raises(ValueError, match=message):
        split_rows(torch.zeros(1, num_rows, 2), ('cls_token',), grid, native, 'x.pth')


@pytest.mark.parametrize('size', [(16, 16), (20, 18), (14, 14)])
def test_a_larger_kernel_answers_to_larger_patches_as_the_old_to_the_old(size):
    torch.manual_seed(0)
    kernel = torch.randn(5, 3, 14, 14)
    patches = torch.randn(7, 3, 14, 14)
    larger = resize_position_embedding(patches.permute(0, 2, 3, 1)[:1], size)
    for patch in patches[1:]:
        more = resize_position_embedding(patch.permute(1, 2, 0)[None], size)
        larger = torch.cat([larger, more])
    answers = torch.einsum('dcij,bijc->bd', resize_patch_kernel(kernel, size), larger)
    assert torch.allclose(answers, torch.einsum('dcij,bcij->bd', kernel, patches), atol=1e-3)


@pytest.mark.parametrize('size', [(16, 16), (8, 8)])
def test_kernels_resize_as_timms_do(size):
    kernel = torch.randn(4, 3, 14, 14)
    theirs = timm.layers.resample_patch_embed(
        kernel, list(size), interpolation='bicubic', antialias=False
    )
    assert torch.allclose(resize_patch_kernel(kernel, size), theirs, atol=1e-3)


def test_the_same_size_is_the_same_kernel():
    kernel = torch.randn(4, 3, 16, 16)
    assert resize_patch_kernel(kernel, (16, 16)) is kernel
