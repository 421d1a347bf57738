"""What became of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .reading import Pixels

# What torchvision, DeiT, MAE and DINOv2 train with, and the configs of this project.
_IMAGENET = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


@dataclass
class LoadReport:
    """What was loaded, resized, newly initialized and ignored.

    Attributes:
        label: Where the weights come from.
        family: Whose naming they had.
        heads: Number of attention heads, and where it is from.
        loaded: Our name -> number of values.
        resized: Our name -> from what to what.
        new: Our name -> what it starts from, and why.
        ignored: Name in the file -> why.
        notes: What the user should know about the resulting network.
        pixels: How the source's images were normalized, if it is known.
    """

    label: str
    family: str
    heads: str
    loaded: dict[str, int] = field(default_factory=dict)
    resized: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pixels: Pixels | None = None

    def unlike_imagenet(self) -> str:
        """The normalization as a data_preprocessor takes it; '' if unknown or ImageNet's."""
        same = self.pixels is None or all(
            abs(a - b) < 0.05
            for ours, theirs in zip(_IMAGENET, self.pixels)
            for a, b in zip(ours, theirs)
        )
        return '' if same else str(self.pixels)

    def __str__(self) -> str:
        """The report for a log, with the blocks of one kind in one line."""
        lines = [
            f'{self.label}, read as {self.family}:',
            f'  loaded   {len(self.loaded)} tensors, {sum(self.loaded.values()):,} values',
            f'  heads    {self.heads}',
        ]
        if self.pixels is not None:
            lines.append(f'  pixels   {self.pixels}; the data_preprocessor must have these')
        lines += [f'  resized  {name}: {how}' for name, how in self.resized.items()]
        lines += _grouped('new', self.new)
        lines += _grouped('ignored', self.ignored)
        lines += [f'  note     {note}' for note in self.notes]
        return '\n'.join(lines)


def _grouped(title: str, entries: Mapping[str, str]) -> list[str]:
    """One line per kind of name and reason, with how many there are."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, reason in entries.items():
        kind = re.sub(r'\d+', 'N', re.sub(r'\.(weight|bias)$', '.*', name))
        if reason == 'lies outside the backbone':
            kind = kind.split('.')[0] + '.*'
        groups.setdefault((kind, reason), []).append(name)
    return [
        f'  {title:<8} {names[0] if len(names) == 1 else f"{kind} ({len(names)} tensors)"}: {why}'
        for (kind, why), names in groups.items()
    ]
