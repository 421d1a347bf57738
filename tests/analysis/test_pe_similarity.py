"""Similarities of the PE against numpy, and resizes whose distortion is known."""

from functools import partial

import numpy as np
import pytest
import torch

from mmpvg.analysis.pe_similarity import (
    cosine_similarity,
    delivered_tables,
    neighbor_contrast,
    resize_distortions,
    similarity_mosaic,
)
from mmpvg.analysis.plots import draw_distortions, draw_mosaics


@pytest.fixture
def make_vit(make_vit):
    return partial(make_vit, img_size=(24, 40))


def test_similarity_is_numpys():
    rows = torch.randn(6, 5) * 7
    x = rows.numpy()
    norms = np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(cosine_similarity(rows), x @ x.T / np.outer(norms, norms), atol=1e-6)


def test_contrast_of_neighbors():
    pe = torch.randn(3, 4, 8) + 1
    x = pe.numpy() / np.linalg.norm(pe.numpy(), axis=2, keepdims=True)
    beside = [x[i, j] @ x[i, j + 1] for i in range(3) for j in range(3)]
    above = [x[i, j] @ x[i + 1, j] for i in range(2) for j in range(4)]
    rows = x.reshape(12, 8)
    pairs = [rows[i] @ rows[j] for i in range(12) for j in range(12) if i != j]
    expected = np.mean(beside + above) - np.mean(pairs)
    assert neighbor_contrast(pe) == pytest.approx(expected, abs=1e-6)
    assert neighbor_contrast(torch.ones(3, 4, 8)) == pytest.approx(0, abs=1e-6)


def test_mosaic_holds_each_pair_in_its_place():
    pe = torch.randn(3, 5, 8)
    pairs = cosine_similarity(pe.flatten(0, 1)).numpy()
    mosaic, ys, xs = similarity_mosaic(pe)
    assert mosaic.shape == (3, 5, 3, 5) and ys == [0, 1, 2] and xs == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(mosaic.reshape(15, 15), pairs, atol=1e-6)
    some, ys, xs = similarity_mosaic(pe, tiles=2)
    assert ys == [0, 2] and xs == [1, 3]
    np.testing.assert_array_equal(some, mosaic[ys][:, xs])


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
@pytest.mark.parametrize('cls_token', [False, True])
def test_tables_are_what_the_network_delivers(make_vit, delivery, cls_token):
    vit = make_vit(delivery, with_cls_token=cls_token)
    for grid in ((3, 5), (4, 9)):
        delivered = vit.deliver_pe(grid)
        expected = {'table': vit.position_embedding(grid)}
        expected.update((f'block {index}', pe) for index, pe in enumerate(delivered.blocks))
        expected['last norm'] = delivered.last_norm
        expected = {name: pe for name, pe in expected.items() if pe is not None}
        tables = delivered_tables(vit, grid)
        assert list(tables) == list(expected)
        for name, pe in tables.items():
            torch.testing.assert_close(pe.flatten(0, 1), expected[name][0, -grid[0] * grid[1] :])
    assert delivered_tables(vit)['table'].shape == (3, 5, 16)
    with pytest.raises(ValueError, match='no position embedding'):
        delivered_tables(make_vit('none', pe_type=None))


def test_the_own_grid_and_its_odd_multiples_are_kept(make_vit):
    for d in resize_distortions(make_vit(), [(3, 5), (9, 15)], ['bicubic', 'nearest-exact']):
        assert d.error == pytest.approx(0, abs=1e-6), d
        assert d.correlation == pytest.approx(1, abs=1e-6)
        assert d.kept == pytest.approx(1, abs=1e-6)
        if d.grid == (3, 5):
            assert d.norm_ratio == pytest.approx(1)


def test_distortions_against_a_calculation_place_by_place(make_vit):
    vit = make_vit()
    native = vit.position_embedding.table.detach()[0].double().numpy()
    (measured,) = (
        d for d in resize_distortions(vit, [(5, 4)], ['nearest-exact']) if d.source == 'table'
    )
    # Nearest, written out: which native row each new row copies.
    resized = np.stack(
        [
            [native[int((y + 0.5) * 3 / 5)][int((x + 0.5) * 5 / 4)] for x in range(4)]
            for y in range(5)
        ]
    )
    read = np.empty((3, 5, 16))
    for i in range(3):
        for j in range(5):
            y = min(max((i + 0.5) / 3 * 5 - 0.5, 0), 4)
            x = min(max((j + 0.5) / 5 * 4 - 0.5, 0), 3)
            top, left = min(int(y), 3), min(int(x), 2)
            v, u = y - top, x - left
            read[i, j] = (1 - v) * ((1 - u) * resized[top, left] + u * resized[top, left + 1])
            read[i, j] += v * ((1 - u) * resized[top + 1, left] + u * resized[top + 1, left + 1])

    def similarity(rows):
        rows = rows.reshape(15, 16)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return rows @ rows.T

    before, after = similarity(native), similarity(read)
    assert measured.error == pytest.approx(np.abs(after - before).mean(), rel=1e-4)
    assert measured.correlation == pytest.approx(
        np.corrcoef(before.ravel(), after.ravel())[0, 1], rel=1e-4
    )
    norms = np.linalg.norm(resized, axis=2).mean() / np.linalg.norm(native, axis=2).mean()
    assert measured.norm_ratio == pytest.approx(norms, rel=1e-5)
    product = (native * read).sum(2)
    kept = product / np.linalg.norm(native, axis=2) / np.linalg.norm(read, axis=2)
    assert measured.kept == pytest.approx(kept.mean(), rel=1e-5)


def test_smooth_tables_are_distorted_less(make_vit):
    rough, smooth = make_vit(), make_vit(pe_type='sinusoid_2d')

    def errors(vit):
        return [d.error for d in resize_distortions(vit, [(5, 8)]) if d.source == 'table']

    assert all(s < r / 2 for s, r in zip(errors(smooth), errors(rough)))


def test_pictures(make_vit, tmp_path):
    vit = make_vit()
    mosaics = {name: similarity_mosaic(pe)[0] for name, pe in delivered_tables(vit).items()}
    distortions = [d for d in resize_distortions(vit, [(2, 2), (6, 8)]) if d.source == 'table']
    pictures = [
        draw_mosaics(mosaics, tmp_path / 'mosaics.png', 'mine'),
        draw_distortions(distortions, tmp_path / 'distortions.png'),
    ]
    assert all(path.stat().st_size > 5000 for path in pictures)


def test_a_mosaic_shows_each_map_at_its_place(figures, tmp_path):
    mosaic = np.arange(2 * 3 * 4 * 5, dtype=float).reshape(2, 3, 4, 5)
    draw_mosaics({'table': mosaic}, tmp_path / 'mosaic.png')
    shown = figures[0].axes[0].images[0].get_array().filled(np.nan)
    # Two rows of maps and three columns, a gap between, none at the ends.
    factor = next(f for f in range(1, shown.shape[0]) if np.isnan(shown[f * 4, 0]))
    for down in range(2):
        for across in range(3):
            top = down * (shown.shape[0] - 4 * factor)
            left = across * (shown.shape[1] - 5 * factor) // 2
            part = shown[top : top + 4 * factor : factor, left : left + 5 * factor : factor]
            np.testing.assert_array_equal(part, mosaic[down, across])
    assert shown.shape[0] > 2 * 4 * factor and shown.shape[1] > 3 * 5 * factor
