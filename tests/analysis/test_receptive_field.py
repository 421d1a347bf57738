"""Receptive fields against finite differences, networks of known field, and known Gaussians."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import curve_fit
from torch.nn import functional as F

from mmpvg.analysis.gaussian_fit import field_spread, fit_gaussian
from mmpvg.analysis.inspection import InspectedModel
from mmpvg.analysis.pe_states import states_of
from mmpvg.analysis.plots import draw_field_curves, draw_fields
from mmpvg.analysis.receptive_field import (
    accumulate_fields,
    center_features,
    center_token,
    learned_gaussians,
    measure_fields,
    places_of,
    share_outside,
)


@pytest.mark.parametrize(
    'options',
    [
        dict(pe_delivery='default'),
        dict(pe_delivery='mpvg'),
        dict(pe_delivery='lape', with_cls_token=True, num_registers=2, pe_type='sinusoid_1d'),
        dict(gaussian_bias='head', relative_position='decomposed'),
        dict(gaussian_bias='block', window_size=2, global_blocks=(2,)),
    ],
    ids=str,
)
def test_gradients_are_finite_differences(make_vit, options):
    # Weights that need no gradient, as of an opened model.
    vit = make_vit(**options).double().requires_grad_(False)
    image = torch.rand(1, 3, 24, 40, dtype=torch.float64)
    features = center_features(vit)
    fields = accumulate_fields(features, [image])
    assert fields.shape == (4, 24, 40)
    step = 1e-5
    differences = np.zeros((4, 24, 40))
    chosen = [(y, x) for y in (0, 9, 13, 23) for x in (1, 17, 20, 39)]
    with torch.no_grad():
        for y, x in chosen:
            for channel in range(3):
                moved = image.repeat(2, 1, 1, 1)
                moved[0, channel, y, x] += step
                moved[1, channel, y, x] -= step
                for index, value in enumerate(features(moved)):
                    differences[index, y, x] += (value[0] - value[1]).item() / (2 * step) / 3
    for field, difference in zip(fields, differences):
        of_field = np.array([field[place] for place in chosen])
        of_difference = np.array([max(difference[place], 0) for place in chosen])
        if not of_field.any():
            # In windows, none of the chosen places may be in the token's own.
            assert np.abs(of_difference).max() < 1e-7
            continue
        # The field is normalized to a sum of 1; one factor joins them.
        scale = of_difference.sum() / of_field.sum()
        np.testing.assert_allclose(of_field * scale, of_difference, atol=1e-7 * scale)


def test_fields_are_summed_over_images_before_they_are_normalized():
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[-5.0, 1.0], [1.0, 1.0]]]])

    def square(x):
        return [x.square().sum((1, 2, 3)), -x.sum((1, 2, 3))]

    for batches in ([images], [images[:1], images[1:]]):
        fields = accumulate_fields(square, batches)
        # Gradients 2x, negative ones cut image by image: the -5 does not take from the 1.
        np.testing.assert_allclose(fields[0], np.array([[1, 3], [4, 5]]) / 13)
        # A field of negative gradients alone is zero.
        assert not fields[1].any()
    with pytest.raises(ValueError, match='no image'):
        accumulate_fields(square, [])
    with pytest.raises(ValueError, match='not finite'):
        accumulate_fields(lambda x: [x.sum((1, 2, 3)) / 0], [images])


def test_a_network_of_windows_sees_its_window_alone(make_vit):
    # 6x10 patches in windows of 4: the center token (2, 4) lies in rows 0 to 3, columns 4 to 7.
    vit = make_vit(window_size=4, global_blocks=(), pe_delivery='mpvg').double()
    fields = accumulate_fields(center_features(vit), [torch.rand(2, 3, 48, 80).double()])
    for field in fields:
        outside = field.copy()
        outside[:32, 32:64] = 0
        assert not outside.any()
        assert field[:32, 32:64].astype(bool).mean() > 0.3


def test_blocks_whose_attention_gives_nothing_see_their_own_patch(make_vit):
    vit = make_vit()
    with torch.no_grad():
        for block in vit.blocks:
            block.attn.proj.weight.zero_()
    fields = accumulate_fields(center_features(vit), [torch.rand(2, 3, 24, 40)])
    for field in fields:
        assert share_outside(field, 8) == pytest.approx(0, abs=1e-12)
        # The image of 3x5 patches has its center in the middle; of 4x6, before it.
        assert field[8:16, 16:24].sum() == pytest.approx(1)
    fields = accumulate_fields(center_features(vit), [torch.rand(2, 3, 32, 48)])
    for field in fields:
        assert share_outside(field, 8) == pytest.approx(0, abs=1e-12)
        assert field[8:16, 16:24].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ('grid', 'index'), [((14, 14), 90), ((24, 24), 275), ((32, 32), 495), ((7, 7), 24), ((1, 2), 0)]
)
def test_the_center_token_is_that_of_gaussian_attention_biass_code(grid, index):
    row, column = center_token(grid)
    assert row * grid[1] + column == index
    if grid[0] == grid[1] and grid[0] % 2 == 0:
        # Its own expression.
        assert index == grid[0] * grid[1] // 2 - (grid[0] // 2 + 1)


def test_a_blur_of_known_width_is_found():
    # A linear map whose gradient is the Gaussian itself, off the middle and wider than high.
    y, x = np.mgrid[:40, :60]
    kernel = torch.from_numpy(
        np.exp(-((y - 17.25) ** 2) / (2 * 4.0**2) - (x - 33.5) ** 2 / (2 * 7.0**2))
    )
    fields = accumulate_fields(
        lambda images: [(images * kernel).sum((1, 2, 3))], [torch.rand(2, 3, 40, 60).double()]
    )
    fit = fit_gaussian(fields[0])
    assert fit.sigma == pytest.approx((4, 7), rel=1e-6)
    assert fit.center == pytest.approx((17.25, 33.5), abs=1e-5)
    assert fit.amplitude == pytest.approx(1 / kernel.sum().item(), rel=1e-6)
    assert fit.r_squared == pytest.approx(1)


def test_two_convolutions_have_the_sum_of_their_variances():
    # Binomial kernels: each adds a variance of 1, far from the edges.
    row = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 16
    kernel = (row[:, None] * row)[None, None]

    def network(images):
        x = images.mean(1, keepdim=True)
        for _ in range(4):
            x = F.conv2d(x, kernel, padding=2)
        return [x[:, 0, 20, 30]]

    (field,) = accumulate_fields(network, [torch.rand(1, 3, 41, 61).double()])
    assert field_spread(field) == pytest.approx((2, 2))
    fit = fit_gaussian(field)
    assert fit.sigma == pytest.approx((2, 2), rel=0.05) and fit.r_squared > 0.999


def test_a_spike_on_a_foot_is_fitted_as_the_spike():
    field = np.full((64, 96), 1e-6)
    y, x = np.mgrid[:64, :96]
    field += 1e-2 * np.exp(-((y - 33) ** 2 + (x - 50) ** 2) / (2 * 1.5**2))
    fit = fit_gaussian(field)
    assert fit.sigma == pytest.approx((1.5, 1.5), rel=1e-3)
    assert fit.r_squared > 0.999


def test_a_spike_far_from_a_wide_hill_is_found():
    """From the moments of the whole the fit would end at the hill, which explains less."""
    y, x = np.mgrid[:120, :200]
    hill = np.exp(-((y - 30) ** 2 + (x - 40) ** 2) / (2 * 25.0**2))
    spike = 30 * np.exp(-((y - 100) ** 2 + (x - 180) ** 2) / (2 * 1.5**2))
    fit = fit_gaussian(hill + spike)
    assert fit.center == pytest.approx((100, 180), abs=0.1)
    assert fit.sigma == pytest.approx((1.5, 1.5), rel=0.05)


@pytest.mark.parametrize('spike', [False, True])
def test_fit_is_scipys_of_all_parameters(spike):
    y, x = np.mgrid[:48, :72]

    def gaussian(_, a, cy, cx, sy, sx):
        exponent = ((y - cy) / sy) ** 2 + ((x - cx) / sx) ** 2
        return (a * np.exp(-exponent / 2)).ravel()

    true = 0.5, 22, 40, 6, 11
    field = gaussian(None, *true) * np.random.default_rng(0).exponential(size=48 * 72)
    field = field.reshape(48, 72)
    start = true
    if spike:
        field[24:30, 30:36] += 20
        start = 20, 26.5, 32.5, 2, 2
    fitted, _ = curve_fit(gaussian, None, field.ravel(), start, xtol=1e-12, ftol=1e-12)
    fit = fit_gaussian(field)
    assert fit.amplitude == pytest.approx(fitted[0], rel=1e-4)
    assert fit.center == pytest.approx(fitted[1:3], abs=1e-3)
    assert fit.sigma == pytest.approx(np.abs(fitted[3:]), rel=1e-4)
    residual = field.ravel() - gaussian(None, *fitted)
    left = np.square(gaussian(None, fit.amplitude, *fit.center, *fit.sigma) - field.ravel()).sum()
    assert left == pytest.approx(np.square(residual).sum(), rel=1e-8)
    assert fit.r_squared == pytest.approx(1 - residual.var() / field.var(), abs=1e-8)
    # Not 1 - residual / total sum of squares, which counts the mean of the residual too.
    total = np.square(field - field.mean()).sum()
    assert fit.r_squared > 1 - left / total


def test_r_squared_of_noise_is_low():
    noise = np.random.default_rng(0).exponential(size=(40, 50))
    assert fit_gaussian(noise).r_squared < 0.05


@pytest.mark.parametrize('field', [np.zeros((4, 4)), np.full((4, 4), np.nan)])
def test_maps_without_a_gaussian_are_refused(field):
    with pytest.raises(ValueError, match='has no Gaussian'):
        fit_gaussian(field)


def test_spread_and_share_of_known_fields():
    uniform = np.full((48, 80), 1 / (48 * 80))
    expected = math.sqrt((48**2 - 1) / 12), math.sqrt((80**2 - 1) / 12)
    assert field_spread(uniform) == pytest.approx(expected)
    # The center token of 6x10 patches of 8 pixels is (2, 4).
    assert share_outside(uniform, 8) == pytest.approx(1 - 1 / 60)
    point = np.zeros((48, 80))
    point[16, 39] = 1
    assert share_outside(point, 8) == 0 and field_spread(point) == (0, 0)
    point[16, 40] = 3
    assert share_outside(point, 8) == 0.75
    # 47x79 pixels are as many patches, the last ones cut off.
    assert share_outside(point[:47, :79], 8) == 0.75


def test_a_study_of_a_network_with_a_gaussian_bias(make_vit, figures, tmp_path):
    vit = make_vit(gaussian_bias='head')
    with torch.no_grad():
        vit.blocks[1].attn.bias.sigma.copy_(torch.tensor([2.0, -3.0]))
    learned = learned_gaussians(vit)
    assert [bias.block for bias in learned] == [0, 1, 2]
    assert learned[1].sigma == (2, -3) and len(learned[1].amplitude) == 2
    assert learned_gaussians(make_vit()) == []

    model = InspectedModel('mine', vit, (0, 0, 0), (1, 1, 1), True)
    asked = []

    def images(size, state):
        asked.append((size, state))
        return [torch.rand(1, 3, *size)]

    fields = list(measure_fields(model, images, [(32, 32), (24, 40)]))
    assert len(asked) == 6 and len(fields) == 2 * 3 * 4
    assert {f.place for f in fields} == {'block 0', 'block 1', 'block 2', 'end'}
    assert all(f.field.shape == f.size and f.field.sum() == pytest.approx(1) for f in fields)
    pictures = [
        draw_fields([f for f in fields if f.size == (24, 40)], tmp_path / 'fields.png', 'mine'),
        draw_field_curves({'mine': fields}, {'mine': learned}, {'mine': 8}, tmp_path / 'curve.png'),
        draw_field_curves({'mine': fields}, {'mine': []}, {'mine': 8}, tmp_path / 'none.png'),
    ]
    assert len({path.read_bytes() for path in pictures}) == 3
    # A quarter of a patch at least.
    assert min(min(f.fit.sigma) for f in fields) == pytest.approx(2)
    # A row a state, a column a place.
    for axis, measured in zip(figures[0].axes, [f for f in fields if f.size == (24, 40)]):
        np.testing.assert_allclose(axis.images[0].get_array() ** 2, measured.field)


def test_a_network_without_a_pe_is_measured_as_it_is(make_vit):
    without = InspectedModel(
        'mine', make_vit(pe_delivery='none', pe_type=None), (0, 0, 0), (1, 1, 1), True
    )
    assert states_of(without.vit) == ('as it is',)
    fields = list(
        measure_fields(without, lambda size, state: [torch.rand(1, 3, *size)], [(32, 32)])
    )
    assert [field.place for field in fields] == places_of(without)
    assert {field.state for field in fields} == {'as it is'}


def test_a_network_of_relative_positions_is_measured_without_them(make_vit, figures, tmp_path):
    vit = make_vit(pe_delivery='none', pe_type=None, relative_position='mlp', final_norm=False)
    model = InspectedModel('mine', vit, (0, 0, 0), (1, 1, 1), True)
    image = torch.rand(1, 3, 24, 40)
    fields = list(measure_fields(model, lambda size, state: [image], [(24, 40)]))
    states = ['as it is', 'relative positions dropped', 'relative positions re-initialized']
    assert list(dict.fromkeys(field.state for field in fields)) == states
    by_state = {s: np.stack([f.field for f in fields if f.state == s]) for s in states}
    assert all(fields.shape == (4, 24, 40) for fields in by_state.values())
    differences = [np.abs(by_state[s] - by_state['as it is']).max(axis=(1, 2)) for s in states[1:]]
    assert np.min(differences) > 1e-5
    # Without a last norm the output is that of the last block, as in GAB's code for vit_relpos.
    for of_state in by_state.values():
        np.testing.assert_array_equal(of_state[2], of_state[3])
    draw_fields(fields, tmp_path / 'fields.png', 'mine')
    labels = [axis.get_ylabel() for axis in figures[0].axes if axis.get_ylabel()]
    assert labels == ['PE as it is', *states[1:]]
