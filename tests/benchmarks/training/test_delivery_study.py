"""The study of the deliveries has the numbers of its parts, and the script runs."""

import csv
import math

import numpy as np
import pytest
import torch

from benchmarks.training.delivery_study import DELIVERY_NUMBERS, describe_delivery, mean_and_spread
from mmpvg.analysis.counterbalance import measure_counterbalance
from mmpvg.analysis.gaussian_fit import field_spread
from mmpvg.analysis.inspection import InspectedModel
from mmpvg.analysis.pe_similarity import delivered_tables, neighbor_contrast, resize_distortions
from mmpvg.analysis.receptive_field import accumulate_fields, center_features, share_outside


@pytest.mark.parametrize('delivery', ['default', 'lape', 'mpvg'])
def test_numbers_are_those_of_the_parts(make_vit, delivery):
    vit = make_vit(delivery, img_size=(24, 40))
    model = InspectedModel(delivery, vit, (0, 0, 0), (1, 1, 1), True)
    images = torch.rand(2, 3, 24, 40)
    numbers = describe_delivery(model, lambda: [images])
    assert list(numbers) == list(DELIVERY_NUMBERS)
    balance = measure_counterbalance(model.vit, [images])
    first = {'default': None, 'lape': 0, 'mpvg': 1}[delivery]
    if first is None:
        assert math.isnan(numbers['first correlation'])
        assert math.isnan(numbers['last correlation']) and math.isnan(numbers['last contrast'])
    else:
        assert numbers['first correlation'] == balance.delivered[:, first].mean()
        assert numbers['last correlation'] == balance.delivered[:, 2].mean()
        last = delivered_tables(model.vit)['block 2']
        assert numbers['last contrast'] == neighbor_contrast(last)
    field = accumulate_fields(center_features(model.vit), [images])[2]
    assert numbers['outside'] == pytest.approx(share_outside(field, 8))
    assert numbers['spread'] == pytest.approx(np.mean(field_spread(field)) / 8)
    assert numbers['last cosine'] == pytest.approx(balance.last_norm.cosine.mean())
    assert numbers['bias variance'] == pytest.approx(vit.norm.bias.var(unbiased=False).item())
    assert numbers['contrast'] == neighbor_contrast(delivered_tables(vit)['table'])
    resized = resize_distortions(vit, [(4, 10)], ['bicubic'])
    assert numbers['resize error'] == next(d.error for d in resized if d.source == 'table')
    with torch.no_grad():
        model.vit.position_embedding.table.zero_()
    field = accumulate_fields(center_features(model.vit), [images])[2]
    assert numbers['outside, zeroed'] == pytest.approx(share_outside(field, 8))
    assert numbers['outside'] != numbers['outside, zeroed']


def test_mean_and_spread():
    described = [dict(a=1.0, b=math.nan), dict(a=2.0, b=math.nan), dict(a=4.5, b=math.nan)]
    numbers = mean_and_spread(described)
    assert numbers['a'] == pytest.approx((2.5, np.std([1, 2, 4.5], ddof=1)))
    assert math.isnan(numbers['b'][0])
    mean, spread = mean_and_spread(described[:1])['a']
    assert mean == 1 and math.isnan(spread)


@pytest.mark.slow
def test_the_script_trains_and_prints(run_module, sample_data, tmp_path, capsys):
    roots = [f'{s}_dataloader.dataset.data_root={sample_data}' for s in ('train', 'val', 'test')]
    run_module(
        'benchmarks.training.deliveries',
        *('--out', tmp_path, '--deliveries', 'default', 'mpvg', '--seeds', 1, '--num-images', 2),
        *('--jobs', 2, '--cfg-options', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2'),
        *('train_dataloader.batch_size=2', *roots),
    )
    printed = capsys.readouterr().out
    with (tmp_path / 'deliveries.csv').open() as file:
        rows = {row['delivery']: row for row in csv.DictReader(file)}
    assert list(rows) == ['default', 'mpvg']
    assert rows['default']['last correlation'] == 'nan'
    assert abs(float(rows['mpvg']['last correlation'])) < 1
    assert 0 <= float(rows['mpvg']['mIoU']) <= 100
    assert (tmp_path / 'deliveries.md').read_text() in printed
    assert '| mIoU |' in printed and '| - |' in printed
