"""Pictures in rows on one sheet, with headings above and a legend below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw

_GAP, _LINE = 8, 28
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def draw_sheet(
    rows: Sequence[Sequence[Image.Image]],
    headings: Sequence[str],
    legend: Mapping[str, tuple[int, ...]],
    path: str | Path,
) -> Path:
    """Write a picture of pictures in rows, and return its path.

    Args:
        rows: The pictures of each row.
        headings: Text above each column.
        legend: Name -> color, (red, green, blue).
        path: The picture to write.
    """
    step = max(cell.width for row in rows for cell in row) + _GAP
    heights = [max(cell.height for cell in row) + _GAP for row in rows]
    size = (max(map(len, rows)) * step + _GAP, sum(heights) + 2 * _LINE + _GAP)
    sheet = Image.new('RGB', size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(headings):
        draw.text((_GAP + column * step, 6), text, fill=_INK, font_size=16)
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            top = _LINE + _GAP + sum(heights[:number])
            sheet.paste(cell, (_GAP + column * step, top))
    left, top = _GAP, size[1] - _LINE + 4
    for name, color in legend.items():
        draw.rectangle((left, top, left + 18, top + 18), fill=color)
        draw.text((left + 24, top), name, fill=_INK, font_size=16)
        left += 40 + int(draw.textlength(name, font_size=16))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return Path(path)
