"""Predictions in one file: what mmengine writes, in little memory."""

import io
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from mmengine.evaluator import DumpResults

from mmpvg.apis.streamed_results import streamed, write_list


def result(index, shared):
    return dict(
        img_id=index,
        scores=torch.arange(3.0) + index,
        masks=[dict(size=[4, 5], counts=b'\x80\xff' * 5)],
        # The same object several times, within a result and in all results.
        boxes=[shared, shared, np.full(2, index)],
    )


def equal(one, other):
    return str(one) == str(other)


@pytest.mark.parametrize('number', [0, 1, 7])
def test_a_list_that_was_written_item_by_item_is_a_list(number):
    shared = [1.5, 'text']
    items = [result(index, shared) for index in range(number)]
    write_list(iter(items), file := io.BytesIO())
    found = pickle.loads(file.getvalue())
    assert equal(found, items)
    assert all(item['boxes'][0] is item['boxes'][1] for item in found)


def test_the_file_is_that_of_mmengine(tmp_path):
    shared = [1.5]
    for name, kind in dict(theirs=DumpResults, ours=streamed(DumpResults)).items():
        metric = kind(out_file_path=str(tmp_path / f'{name}.pkl'))
        # Twice, as a metric that is used again.
        for _ in range(2):
            for index in range(0, 40, 2):
                metric.process(None, [result(index, shared), result(index + 1, shared)])
            assert metric.evaluate(39) == {}
    theirs, ours = (pickle.loads((tmp_path / f'{n}.pkl').read_bytes()) for n in ('theirs', 'ours'))
    assert len(ours) == 39 and equal(ours, theirs)
    assert len(list(tmp_path.iterdir())) == 2


def test_results_of_a_detector_are_compressed(tmp_path):
    metrics = pytest.importorskip('mmdet.evaluation', reason='needs mmdet')
    metric = streamed(metrics.DumpDetResults)(out_file_path=str(tmp_path / 'a.pkl'))
    masks = torch.zeros(2, 6, 7, dtype=torch.bool)
    sample = dict(pred_instances=dict(masks=masks), gt_instances=1)
    metric.process(None, [sample])
    metric.evaluate(1)
    (found,) = pickle.loads((tmp_path / 'a.pkl').read_bytes())
    assert found['pred_instances']['masks'][0]['size'] == [6, 7] and 'gt_instances' not in found


def test_memory_does_not_grow_with_the_results(tmp_path):
    metric = streamed(DumpResults)(out_file_path=str(tmp_path / 'a.pkl'))
    tracemalloc.start()
    try:
        for index in range(100):
            metric.process(None, [dict(values=np.full(100_000, index, np.uint8))])
        metric.evaluate(100)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A chunk of 16 results is exchanged at a time, pickled and not.
    assert peak < 5_000_000 < (tmp_path / 'a.pkl').stat().st_size


@pytest.mark.slow
def test_two_processes(run_two_processes, tmp_path):
    run_two_processes('apis/streamed_results_worker.py', str(tmp_path))
    found = pickle.loads((tmp_path / 'out.pkl').read_bytes())
    assert [item['index'] for item in found] == list(range(71))
    assert len(list(tmp_path.iterdir())) == 1
