"""Boxes are pooled and decoded where they are, in mixed precision too."""

import types
from collections import defaultdict
from typing import NamedTuple

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from benchmarks.robustness.shape_study import _sample
from mmpvg.engine import Float32BoxesHook


@pytest.fixture
def detector(repo):
    cfg = Config.fromfile(repo / 'configs/sample/mask_rcnn_vit_mpvg_sample.py')
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def hooked(model):
    hook, runner = Float32BoxesHook(), types.SimpleNamespace(model=model)
    hook.before_run(runner)
    return hook, runner


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_corners_keep_their_places(detector, dtype):
    extractor = detector.roi_head.bbox_roi_extractor
    # A map that holds its own column, so that what is pooled shows where.
    column = (torch.arange(400.0) - 325).expand(1, 64, 8, 400)
    maps = [column.to(dtype), *(torch.zeros(1, 64, 4, 4, dtype=dtype) for _ in range(2))]
    rois = torch.tensor([[0.0, 1301.3, 4.0, 1315.7, 20.0]])
    # Each map is pooled as if it were the finest, whose stride is 4.
    expected = extractor([m.float() for m in maps], rois)
    hook, runner = hooked(detector)
    found = extractor(maps, rois)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    hook.after_run(runner)
    try:
        spoilt = extractor(maps, rois).float()
    except (RuntimeError, NotImplementedError) as error:
        assert 'not implemented' in str(error)
    else:
        assert (spoilt - expected).abs().max() > 0.05


def test_bfloat16_trains(detector):
    """On a CPU; the losses are those of float32 within bfloat16's three digits."""
    torch.manual_seed(1)
    images = [torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8) for _ in range(2)]
    samples = [_sample('mmdet', (96, 128)) for _ in range(2)]
    data = detector.data_preprocessor(dict(inputs=images, data_samples=samples), True)

    def losses():
        torch.manual_seed(2)
        found = detector(**data, mode='loss')
        return {
            name: float(sum(value) if isinstance(value, list) else value)
            for name, value in found.items()
            if 'loss' in name
        }

    expected = losses()
    hooked(detector)
    assert losses() == expected
    with torch.autocast('cpu', torch.bfloat16):
        found = losses()
    # Which proposals are sampled near a threshold depends on the processor's rounding.
    assert found.pop('loss_bbox') == pytest.approx(expected.pop('loss_bbox'), rel=0.5)
    assert found == pytest.approx(expected, rel=0.05)


class Scores(NamedTuple):
    cls: torch.Tensor
    boxes: list


class Head(torch.nn.Module):
    """A head that gives back what it receives."""

    def loss_by_feat(self):
        raise NotImplementedError

    def forward(self, value):
        return value


def test_what_heads_give_is_lifted_in_every_container():
    half = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
    labels = torch.tensor([3, 4])
    more = defaultdict(list, ious=[half, None])
    given = Scores(half, [dict(boxes=half, labels=labels), (half, 'x'), more])
    head = Head()
    hooked(head)
    found = head(given)
    assert type(found) is Scores and type(found.boxes) is list
    first, (second, text), third = found.boxes
    assert type(third) is defaultdict and third.default_factory is list
    for lifted in (found.cls, first['boxes'], second, third['ious'][0]):
        assert lifted.dtype == torch.float32 and lifted.tolist() == [1.5, -2.0]
    assert first['labels'] is labels and text == 'x' and third['ious'][1] is None
    assert given.boxes[0]['boxes'] is half and more['ious'][0] is half, 'what was given stays'


def test_it_is_there_once_and_goes(detector):
    hook, runner = hooked(detector)
    hook.before_run(runner)
    extractor = detector.roi_head.mask_roi_extractor
    assert len(extractor._forward_pre_hooks) == len(detector.rpn_head._forward_hooks) == 1
    hook.after_run(runner)
    assert not extractor._forward_pre_hooks and not detector.rpn_head._forward_hooks
