"""The counterbalance against numpy and hand-made cases."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmpvg.analysis.counterbalance import measure_counterbalance, pearson
from mmpvg.analysis.inspection import record_network
from mmpvg.analysis.plots import (
    draw_counterbalance,
    draw_embedding_maps,
    draw_last_norms,
)


def test_pearson_is_numpys():
    x, y = torch.randn(4, 5, 6), torch.randn(1, 5, 6) * 3 + 1
    expected = [np.corrcoef(one.ravel(), y.ravel())[0, 1] for one in x.numpy()]
    np.testing.assert_allclose(pearson(x, y), expected, rtol=1e-6)
    assert pearson(x, x * -2 + 7).tolist() == pytest.approx([-1] * 4)
    assert pearson(x, torch.ones(1, 5, 6)).isnan().all()


@pytest.mark.parametrize('delivery', ['default', 'lape', 'pvg', 'mpvg'])
def test_measurement_against_numpy(make_vit, delivery):
    vit, images = make_vit(delivery), torch.rand(5, 3, 24, 40)
    measured = measure_counterbalance(vit, [images[:2], images[2:]])
    with torch.no_grad():
        record = record_network(vit, images)
        before = record.blocks[-1].output.double().numpy()
        after = record.last.double().numpy()
    assert measured.grid == (3, 5)
    for index, block in enumerate(record.blocks):
        embedding = block.embedding.numpy()
        np.testing.assert_allclose(measured.embeddings[index], embedding.mean(0), atol=1e-6)
        table = [np.corrcoef(e.ravel(), record.table.detach().ravel())[0, 1] for e in embedding]
        np.testing.assert_allclose(measured.table[:, index], table, atol=1e-6)
        mean, rows = embedding.mean(0).ravel(), record.table.detach().ravel()
        averaged = np.corrcoef(mean, rows)[0, 1]
        np.testing.assert_allclose(measured.averaged_table[index], averaged, atol=1e-6)
        if block.pe is None:
            assert np.isnan(measured.delivered[:, index]).all() and measured.pes[index] is None
            assert np.isnan(measured.averaged[index])
        else:
            delivered = [np.corrcoef(e.ravel(), block.pe.ravel())[0, 1] for e in embedding]
            np.testing.assert_allclose(measured.delivered[:, index], delivered, atol=1e-6)
            averaged = np.corrcoef(mean, block.pe.ravel())[0, 1]
            np.testing.assert_allclose(measured.averaged[index], averaged, atol=1e-6)
    end, norms = measured.last_norm, lambda x: np.linalg.norm(x, axis=2)
    np.testing.assert_allclose(end.before, norms(before).mean(0).reshape(3, 5))
    np.testing.assert_allclose(end.after, norms(after).mean(0).reshape(3, 5))
    cosine = (before * after).sum(2) / norms(before) / norms(after)
    np.testing.assert_allclose(end.cosine, cosine.mean(0).reshape(3, 5))
    assert end.bias_variance == pytest.approx(vit.norm.bias.detach().numpy().var(), rel=1e-5)
    assert (end.pe_bias_variance is None) == (delivery != 'mpvg')


def test_a_pe_that_is_minus_the_tokens_has_correlation_minus_one(make_vit):
    vit = make_vit('lape')
    image = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        embedding = record_network(vit, image).blocks[0].embedding
        # LaPE adds no PE at the input, so the first embedding does not depend on the table.
        norm = vit.pe_delivery.block_norms['0']
        norm.weight.fill_(1)
        norm.bias.zero_()
        vit.position_embedding.table = torch.nn.Parameter(-embedding.view(1, 3, 5, -1))
        opposite = torch.nn.functional.layer_norm(-embedding, (16,))
    measured = measure_counterbalance(vit, [image])
    assert measured.table[0, 0] == pytest.approx(-1)
    assert measured.delivered[0, 0] == pytest.approx(pearson(embedding, opposite).item(), abs=1e-5)


def test_a_network_without_pe_and_without_last_norm(make_vit):
    vit = make_vit('none', pe_type=None, final_norm=False)
    measured = measure_counterbalance(vit, [torch.rand(2, 3, 32, 32)])
    assert np.isnan(measured.delivered).all() and np.isnan(measured.table).all()
    assert measured.last_norm.bias_variance is None
    np.testing.assert_allclose(measured.last_norm.cosine, 1)


def test_what_cannot_be_averaged_is_refused(make_vit):
    with pytest.raises(ValueError, match='no image'):
        measure_counterbalance(make_vit(), [])
    with pytest.raises(ValueError, match=r'\(4, 4\) and \(2, 4\)'):
        measure_counterbalance(make_vit(), [torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 32)])


def test_pictures(make_vit, tmp_path):
    images = [torch.rand(2, 3, 24, 40)]
    results = {d: measure_counterbalance(make_vit(d), images) for d in ('default', 'mpvg')}
    drawn = [
        draw_counterbalance(results, tmp_path / 'curve.png'),
        draw_last_norms(results, tmp_path / 'last.png'),
        *(draw_embedding_maps(results[d], tmp_path / f'{d}.png') for d in results),
    ]
    assert len({path.read_bytes() for path in drawn}) == 4


def test_the_curve_of_default_is_in_the_right_panel_alone(make_vit, tmp_path):
    images = [torch.rand(2, 3, 24, 40)]
    results = {d: measure_counterbalance(make_vit(d), images) for d in ('mpvg', 'default', 'lape')}
    path = draw_counterbalance(results, tmp_path / 'curve.png')
    pixels = np.asarray(Image.open(path).convert('RGB')).astype(int)
    # Without the legend below the panels.
    pixels = pixels[: pixels.shape[0] * 3 // 4]
    # The second and the third color: default, and LaPE.
    for color, left in (((0xE6, 0x9F, 0x00), False), ((0x56, 0xB4, 0xE9), True)):
        near = (np.abs(pixels - color).sum(axis=2) < 30).any(axis=0)
        half = pixels.shape[1] * 53 // 100
        assert near[:half].any() == left
        assert near[half:].any()


@pytest.mark.parametrize('depth', [3, 12])
def test_the_published_values_are_drawn_beside_networks_of_their_depth(
    make_vit, figures, tmp_path, depth
):
    vit = make_vit('mpvg', arch=dict(embed_dims=16, num_layers=depth, num_heads=2))
    result = measure_counterbalance(vit, [torch.rand(3, 3, 24, 40)])
    draw_counterbalance({'mine': result}, tmp_path / 'curve.png')
    left, right = figures[0].axes
    points = [line.get_xydata().tolist() for line in left.lines if line.get_marker() == 'x']
    # Figure 2 of the paper.
    published = [[1, -0.37], [4, -0.67], [7, -0.82], [9, -0.85], [11, -0.95]]
    assert points == ([published] if depth == 12 else [])
    for axis, mean, averaged in (
        (left, result.delivered.mean(0)[1:], result.averaged[1:]),
        (right, result.table.mean(0), result.averaged_table),
    ):
        solid, dashed = axis.lines[:2]
        np.testing.assert_array_equal(solid.get_ydata(), mean)
        np.testing.assert_array_equal(dashed.get_ydata(), averaged)
        assert (solid.get_linestyle(), dashed.get_linestyle()) == ('-', '--')
    assert not np.allclose(result.averaged[1:], result.delivered.mean(0)[1:], atol=1e-3)


def test_maps_are_tokens_pe_and_their_sum(make_vit, figures, tmp_path):
    result = measure_counterbalance(make_vit('mpvg'), [torch.rand(2, 3, 24, 40)])
    draw_embedding_maps(result, tmp_path / 'maps.png')
    (figure,) = figures
    axes = np.array(figure.axes[:9]).reshape(3, 3)
    for block in range(3):
        embedding, pe = result.embeddings[block], result.pes[block]
        rows = (embedding, None, None) if pe is None else (embedding, pe, embedding + pe)
        for axis, expected in zip(axes[:, block], rows):
            assert len(axis.images) == (expected is not None)
            if expected is not None:
                np.testing.assert_array_equal(axis.images[0].get_array(), expected)
    low, high = axes[0, 0].images[0].get_clim()
    assert low == -high and all(a.images[0].get_clim() == (low, high) for a in axes[0])
