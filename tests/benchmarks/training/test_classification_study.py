"""A study trains what is asked for, once, and counts right."""

import statistics

import numpy as np
import pytest
from PIL import Image

from benchmarks.training.classification_plot import draw_study
from benchmarks.training.classification_study import StudyRun, plan_study, run_study, summarize

CONFIG = 'configs/sample/classifier_vit_mpvg-ggem_sample.py'


def test_plan():
    runs = plan_study(['pvg', 'mpvg'], ['average', 'ggem'], 2)
    assert len(runs) == len(set(runs)) == 8
    # A study that is cut short has whole seeds.
    assert {run.seed for run in runs[:4]} == {0}
    with pytest.raises(ValueError, match='got 0'):
        plan_study(['pvg'], ['average'], 0)


def test_mean_and_spread():
    values = {0: 90.0, 1: 94.0, 2: 92.5}
    accuracies = {StudyRun('lape', 'ggem', seed): values[seed] for seed in (2, 0, 1)}
    accuracies[StudyRun('pvg', 'ggem', 0)] = 80.0
    lape, pvg = summarize(accuracies)
    assert lape.accuracies == (90.0, 94.0, 92.5)
    assert lape.mean == pytest.approx(np.mean([90, 94, 92.5]))
    assert lape.spread == pytest.approx(np.std([90, 94, 92.5], ddof=1))
    assert lape.spread == pytest.approx(statistics.stdev(values.values()))
    assert (pvg.mean, pvg.spread) == (80.0, 0.0)


@pytest.mark.slow
def test_runs_differ_in_what_they_are_to_and_are_not_repeated(repo, digits_data, tmp_path):
    options = [f'{split}_dataloader.dataset.data_root={digits_data}' for split in ('train', 'val')]
    options += ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'test_dataloader=None']
    options += ['test_evaluator=None', 'test_cfg=None']
    runs = plan_study(['default', 'lape'], ['ggem'], 1)
    seen = []
    config = str(repo / CONFIG)
    first = run_study(runs, config, tmp_path, options, 2, lambda done, *_: seen.append(done))
    assert list(first) == runs and seen == [1, 2]
    assert all(0 <= accuracy <= 100 for accuracy in first.values())
    for run in runs:
        (log,) = (tmp_path / run.name).glob('*/*.log')
        text = log.read_text()
        assert f"pe_delivery='{run.delivery}'" in text and "pooling='ggem'" in text
    assert run_study(runs, config, tmp_path, options) == first
    assert all(len(list((tmp_path / run.name).glob('*/*.log'))) == 1 for run in runs)
    with pytest.raises(ValueError, match=r'default_ggem_0 holds a training of .*max_epochs=1 '):
        run_study(runs, config, tmp_path, [*options, 'train_cfg.max_epochs=2'])
    with pytest.raises(
        ChildProcessError, match=r"default_max_0/output.txt failed[\s\S]*unknown pooling 'max'"
    ):
        run_study([StudyRun('default', 'max', 0)], config, tmp_path, options)


def test_the_plot_shows_every_seed(tmp_path):
    accuracies = {
        StudyRun(delivery, pooling, seed): 90.0 + seed + 2 * (pooling == 'ggem')
        for seed in range(3)
        for delivery in ('default', 'mpvg')
        for pooling in ('average', 'ggem')
    }
    path = draw_study(summarize(accuracies), tmp_path / 'new' / 'study.png', 'A title')
    pixels = np.asarray(Image.open(path).convert('RGB')).astype(int)
    for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        near = np.abs(pixels - color).sum(axis=2) < 150
        # Two deliveries stand apart, with a gap between them.
        columns = np.flatnonzero(near[:, : int(0.8 * pixels.shape[1])].any(axis=0))
        assert np.diff(columns).max() > 50
