"""A contact sheet of what is wrong with a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path

from PIL import Image, ImageDraw

from .finding import Finding
from .image_files import open_image

_CELL, _LINE, _GAP, _COLUMNS = 240, 18, 10, 4
_PAPER, _INK, _MARK, _MARGIN = (255, 255, 255), (30, 30, 30), (220, 30, 30), (225, 225, 225)


def draw_findings(findings: Sequence[Finding], out: Path, number: int = 12) -> None:
    """Draw some images with what was found, of each problem as many as of the others.

    Boxes are red, and images have a gray margin for boxes that lie outside. An image that cannot be
    read is a gray cell.

    Args:
        findings: At least one.
        out: PNG to write.
        number: Cells.
    """
    by_problem = defaultdict(list)
    for finding in findings:
        by_problem[finding.problem].append(finding)
    rounds = chain.from_iterable(zip_longest(*by_problem.values()))
    chosen = list(islice(filter(None, rounds), number))
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    step, height = _CELL + _GAP, _CELL + 2 * _LINE + _GAP
    sheet = Image.new('RGB', (columns * step + _GAP, rows * height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, finding in enumerate(chosen):
        left, top = _GAP + index % columns * step, _GAP + index // columns * height
        draw.text((left, top), finding.problem, fill=_MARK, font_size=13)
        draw.text((left, top + _LINE), Path(finding.path).name[-34:], fill=_INK, font_size=11)
        sheet.paste(_cell(finding), (left, top + 2 * _LINE))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


def _cell(finding: Finding) -> Image.Image:
    cell = Image.new('RGB', (_CELL, _CELL), _MARGIN)
    try:
        with open_image(finding.path) as file:
            image = file.convert('RGB')
    except Exception:  # whatever PIL makes of a broken file
        what = 'all of the file' if finding.path.endswith('.json') else 'cannot be read'
        ImageDraw.Draw(cell).text((10, _CELL // 2), what, fill=_INK, font_size=13)
        return cell
    # A quarter of the cell around it, for what lies outside.
    scale = 0.75 * _CELL / max(image.size)
    offset = _CELL // 8
    size = [max(1, round(side * scale)) for side in image.size]
    cell.paste(image.resize(size, Image.BICUBIC), (offset, offset))
    if finding.box is not None:
        x, y, width, height = (value * scale for value in finding.box)
        corners = [x, y, x + max(width, 0), y + max(height, 0)]
        inside = [min(max(value + offset, 2), _CELL - 3) for value in corners]
        ImageDraw.Draw(cell).rectangle(inside, outline=_MARK, width=2)
    return cell
