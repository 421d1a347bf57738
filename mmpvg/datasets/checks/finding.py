"""Findings of a check of data, and their summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

#: Consequences of a problem, the worst first.
EFFECTS = {
    'stops': 'the run stops',
    'senseless': 'goes unnoticed and makes the result wrong',
    'stops evaluation': 'evaluation stops',
    'unnoticed': 'goes unnoticed',
    'replaced': 'another image is taken',
    'left out': 'the annotation or image is left out',
    'noted': 'as configured',
}

#: Effects with which training is not worth starting.
FATAL = ('stops', 'senseless', 'stops evaluation')


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or, with the effect ``noted``, worth knowing.

    Attributes:
        path: The image, or the annotation file.
        problem: A few words that many findings share.
        detail: The numbers.
        effect: One of ``EFFECTS``.
        box: Left, top, width and height in pixels, if a box is the problem.
    """

    path: str
    problem: str
    detail: str
    effect: str
    box: tuple[float, ...] | None = None

    def __str__(self) -> str:
        """Path and detail."""
        return f'{self.path}: {self.detail}' if self.detail else self.path


def summarize_findings(findings: Sequence[Finding]) -> list[tuple[str, str, int, int, str]]:
    """Rows (problem, effect, findings, images, an example), the worst effect first."""
    groups = defaultdict(list)
    for finding in findings:
        groups[finding.problem, finding.effect].append(finding)
    order = list(EFFECTS)
    rows = [
        (problem, effect, len(found), len({f.path for f in found}), str(found[0]))
        for (problem, effect), found in groups.items()
    ]
    return sorted(rows, key=lambda row: (order.index(row[1]), -row[2]))


@dataclass
class Audit:
    """What was found in one data set.

    Attributes:
        key: Where it stands in the config.
        images: How many it has; 0 if that is not known.
        counts: Objects, images, or pixels of each class; empty if they were not counted.
        counted: What was counted, in words.
        findings: What is wrong, and notes.
    """

    key: str
    images: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    counted: str = 'labels'
    findings: list[Finding] = field(default_factory=list)

    @property
    def wrong(self) -> list[Finding]:
        """Findings that are not only notes."""
        return [finding for finding in self.findings if finding.effect != 'noted']

    @property
    def fatal(self) -> list[Finding]:
        """Findings with which training is not worth starting."""
        return [finding for finding in self.findings if finding.effect in FATAL]

    def describe_counts(self, most: int = 12) -> str:
        """Numbers of images and of each class in a line, at most ``most`` of the rarest."""
        text = f'{self.key}: {self.images} images'
        if not self.counts:
            return text
        ordered = sorted(self.counts.items(), key=lambda item: item[1])
        some = [f'{name} {number}' for name, number in ordered if number]
        none = [name for name, number in ordered if not number]
        text += f', {sum(self.counts.values())} {self.counted} of {len(self.counts)} classes: '
        text += ', '.join(some[:most])
        if len(some) > most:
            text += f', ... up to {some[-1]}'
        if none:
            text += f'; none of {", ".join(none[:most])}'
            text += f' and {len(none) - most} more' if len(none) > most else ''
        return text


# Share of the files above which a problem is one of them all.
_MOST = 0.5

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


def join_common(
    findings: Sequence[Finding], where: str, files: int, training: bool
) -> list[Finding]:
    """Join the findings of a problem that most files have into one with an effect of ``FATAL``.

    Args:
        findings: Of single files.
        where: What they have in common, such as a folder.
        files: How many were read; 0 if that is not known, which joins none.
        training: Whether they are trained on; otherwise they are evaluated on.
    """
    paths = defaultdict(dict)
    for finding in findings:
        if finding.effect in ('replaced', 'left out'):
            paths[finding.problem].setdefault(finding.path, finding)
    common = {problem: found for problem, found in paths.items() if len(found) > _MOST * files > 0}
    result = [finding for finding in findings if finding.problem not in common]
    for problem, found in common.items():
        first = next(iter(found.values()))
        effect = first.effect if training else in_evaluation(first).effect
        effect = {'replaced': 'stops', 'stops evaluation': effect}.get(effect, 'senseless')
        detail = f'{len(found)} of {files} files, such as {first}'
        result.append(Finding(where, problem, detail, effect))
    return result
