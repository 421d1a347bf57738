"""Two checkpoints on the same test images: metrics, and a score of every image."""

from __future__ import annotations

import contextlib
import io
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mmengine.evaluator import Evaluator
from mmengine.registry import EVALUATOR
from mmengine.utils import ProgressBar

from mmpvg.utils.errors import UserError

from .candidates import Candidate
from .class_metrics import metrics_by_class
from .image_scores import ImageScore, image_score


@dataclass(frozen=True)
class Pair:
    """A number of A and of B; None where there was nothing to measure."""

    a: float | None
    b: float | None

    @classmethod
    def of(cls, a: float | None, b: float | None) -> Pair:
        """Take two numbers of metrics; NaN, or COCO's -1, means that nothing was measured."""
        return cls(*(None if x is None or math.isnan(x) or x == -1 else float(x) for x in (a, b)))

    @property
    def difference(self) -> float | None:
        """B - A."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class ImagePair:
    """The path of an image, its place in the test set, and the scores of A and B."""

    path: str
    index: int
    score: Pair


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one checkpoint.

    Attributes:
        metrics: Those of the test evaluator.
        by_class: Metric -> class -> value.
        scores: Path and score of every image, in the order of the test set.
    """

    metrics: dict[str, float]
    by_class: dict[str, dict[str, float]]
    scores: list[tuple[str, float]]


@dataclass(frozen=True)
class Comparison:
    """Two checkpoints side by side.

    Attributes:
        candidates: A and B.
        score: The score of images.
        metrics: Metric -> values on the whole test set.
        by_class: Metric -> class -> values.
        images: All images, in the order of the test set.
        score_thr: Detections that do not score more did not count in the scores of images.
    """

    candidates: tuple[Candidate, Candidate]
    score: ImageScore
    metrics: dict[str, Pair]
    by_class: dict[str, dict[str, Pair]]
    images: list[ImagePair]
    score_thr: float = 0.5

    @property
    def gains(self) -> list[ImagePair]:
        """The images where B is better, the largest difference first."""
        found = [image for image in self.images if (image.score.difference or 0) > 0]
        return sorted(found, key=lambda image: -image.score.difference)

    @property
    def losses(self) -> list[ImagePair]:
        """The images where A is better, the largest difference first."""
        found = [image for image in self.images if (image.score.difference or 0) < 0]
        return sorted(found, key=lambda image: image.score.difference)

    def extremes(self, number: int) -> tuple[list[ImagePair], list[ImagePair]]:
        """Return the images where B gains most, and those where it loses most; the largest first.

        Half of the number are of each; if there are fewer of one, more are of the other.
        """
        gains, losses = self.gains, self.losses
        lost = min(len(losses), max(number // 2, number - len(gains)))
        return gains[: number - lost], losses[:lost]


def compare(candidates: tuple[Candidate, Candidate], score_thr: float = 0.5) -> Comparison:
    """Test both with the test evaluator of A's config, and score every image.

    Args:
        candidates: Of ``load_candidates``.
        score_thr: Detections that do not score more do not count in the scores of images.

    Raises:
        UserError: If the test set is empty or loads no ground truth, or a model does not predict
            what is measured.
    """
    cfg = candidates[0].cfg
    score = image_score(cfg, len(candidates[0].dataset.metainfo['classes']), score_thr)
    a, b = (evaluate_candidate(each, cfg.test_evaluator, score) for each in candidates)
    return Comparison(
        candidates,
        score,
        metrics=_pairs(a.metrics, b.metrics),
        by_class={
            metric: _pairs(a.by_class.get(metric, {}), b.by_class.get(metric, {}))
            for metric in {**a.by_class, **b.by_class}
        },
        images=[
            ImagePair(path, index, Pair.of(score_a, score_b))
            for index, ((path, score_a), (_, score_b)) in enumerate(zip(a.scores, b.scores))
        ],
        score_thr=score_thr,
    )


def evaluate_candidate(
    candidate: Candidate, evaluator: Mapping | list, score: ImageScore
) -> Evaluation:
    """Test a checkpoint as ``tools/test.py`` does, and score every image in the same pass."""
    size = len(candidate.dataset)
    if not size:
        raise UserError(f'the test set of {candidate.config} has no image')
    # COCO's tools print.
    with contextlib.redirect_stdout(io.StringIO()):
        gathered = _build_evaluator(evaluator)
        gathered.dataset_meta = candidate.dataset.metainfo
        scores = []
        bar = ProgressBar(size, file=sys.stderr)
        for batch in candidate.loader:
            with torch.no_grad():
                samples = candidate.model.test_step(batch)
            scores += [(sample.img_path, score.of(sample)) for sample in samples]
            gathered.process(data_samples=samples, data_batch=batch)
            bar.update(len(samples))
        print(file=sys.stderr)
        by_class = metrics_by_class(gathered, candidate.cfg.default_scope)
        return Evaluation(gathered.evaluate(size), by_class, scores)


def _build_evaluator(evaluator: Mapping | list) -> Evaluator:
    """As mmengine's runner does."""
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        return EVALUATOR.build({'type': 'Evaluator', **evaluator})
    return Evaluator(evaluator)


def _pairs(a: Mapping[str, float], b: Mapping[str, float]) -> dict[str, Pair]:
    return {key: Pair.of(a.get(key), b.get(key)) for key in {**a, **b}}
