"""What a check of data finds, and how findings are summarized."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: What happens because of a problem, the worst first.
EFFECTS = {
    'stops': 'training stops',
    'senseless': 'is trained on unnoticed and makes the result wrong',
    'stops evaluation': 'evaluation stops',
    'unnoticed': 'is trained on unnoticed',
    'replaced': 'another image is taken',
    'left out': 'the annotation or image is left out',
}


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes:
        path: The image.
        problem: A few words that many findings share.
        detail: The numbers.
        effect: One of :data:`EFFECTS`.
        box: Left, top, width and height in pixels, where a box is the problem.
    """

    path: str
    problem: str
    detail: str
    effect: str
    box: tuple[float, ...] | None = None


def summarize_findings(findings: Sequence[Finding]) -> list[tuple[str, str, int, int, str]]:
    """Rows (problem, effect, findings, images, an example), the worst effect first."""
    counts = Counter((f.problem, f.effect) for f in findings)
    images, example = defaultdict(set), {}
    for finding in findings:
        key = (finding.problem, finding.effect)
        images[key].add(finding.path)
        example.setdefault(
            key, f'{finding.path}: {finding.detail}' if finding.detail else finding.path
        )
    order = list(EFFECTS)
    return [
        (problem, effect, number, len(images[problem, effect]), example[problem, effect])
        for (problem, effect), number in sorted(
            counts.items(), key=lambda item: (order.index(item[0][1]), -item[1])
        )
    ]


# Problems for which training takes another image, and evaluation goes on.
_EVALUATED = (
    'size unlike its annotations',
    'EXIF orientation unlike the annotations',
    'labels beyond 8 bits',
)


def in_evaluation(finding: Finding) -> Finding:
    """The finding with its effect on validation or testing, where no image can be replaced."""
    if finding.effect == 'replaced':
        effect = 'unnoticed' if finding.problem in _EVALUATED else 'stops evaluation'
    elif finding.problem == 'label outside the classes':
        # mmseg's metrics leave these pixels out.
        effect = 'unnoticed'
    else:
        return finding
    return replace(finding, effect=effect)
