"""What became of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What was loaded, resized, started anew and left out.

    Attributes:
        label: Where the weights come from.
        family: Whose naming they had.
        loaded: Our name -> number of values.
        resized: Our name -> from what to what.
        new: Our name -> what it starts from, and why.
        ignored: Name in the file -> why.
        notes: What the user should know about the network that results.
    """

    label: str
    family: str
    loaded: dict[str, int] = field(default_factory=dict)
    resized: dict[str, str] = field(default_factory=dict)
    new: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The report for a log, blocks of one kind in one line."""
        lines = [
            f'{self.label}, read as {self.family}:',
            f'  loaded   {len(self.loaded)} tensors, {sum(self.loaded.values()):,} values',
        ]
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
    lines = []
    for (kind, reason), names in groups.items():
        shown = names[0] if len(names) == 1 else f'{kind} ({len(names)} tensors)'
        lines.append(f'  {title:<8} {shown}: {reason}')
    return lines
