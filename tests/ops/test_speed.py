"""The comparison of the speed of both sets of operators."""

from benchmarks.ops.__main__ import make_boxes, table


def test_a_case_is_timed_with_both_sets(compiled):
    from mmcv.ops import nms

    from mmpvg.ops import extension

    boxes, scores, _ = make_boxes(8, 'cpu')
    given = []

    def case(ext):
        given.append(ext)
        return nms(boxes, scores, 0.7)

    *_, line = table({'nms': case}, compiled, rounds=2)
    assert set(given) == {extension, compiled}
    _, name, own, free, ratio, _ = line.split('|')
    assert name == ' nms ' and all(float(value) >= 0 for value in (own, free, ratio))
