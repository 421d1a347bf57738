"""What several trainings reached; that they run is tested with the studies that need them."""

import json

from benchmarks.training.launcher import last_logged


def test_the_last_validation_of_the_last_run_counts(tmp_path):
    runs = {'20260101_000000': [10.0, 20.0], '20260101_000500': [15.0, 85.0]}
    for run, values in runs.items():
        lines = [dict(step=1, loss=0.5)]
        for step, value in enumerate(values):
            lines += [dict(mIoU=value, step=step), dict(step=step, loss=0.1)]
        log = tmp_path / run / 'vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    assert last_logged(tmp_path, 'mIoU') == 85
