"""Pages that need nothing but themselves: HTML with its style and pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from string import Template

from PIL import Image

# Nothing is fetched and nothing runs, whatever a page says.
_PAGE = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")

_STYLE = """\
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.2rem; margin-top: 2rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.3rem; }
p, figcaption { max-width: 44rem; }
code { font-size: 0.85em; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; background: #f4f4f4; padding: 0.6rem; }
.tables { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: flex-start; }
.tables > div { max-width: 100%; overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 1.2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ccc; text-align: right;
  vertical-align: top; }
th:first-child, .words th, .words td { text-align: left; }
thead th { border-bottom: 2px solid #1a1a1a; }
tbody th { font-weight: 400; }
tbody th, td { white-space: nowrap; }
.words td { white-space: normal; }
figure { margin: 0; }
figcaption { font-size: 0.9rem; }
.panels { display: grid; grid-template-columns: repeat(4, 1fr); gap: 0.5rem; }
.panels img { display: block; width: 100%; height: auto; }
.chart svg { width: 100%; max-width: 36rem; height: auto; font: 13px system-ui, sans-serif; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; padding: 0; }
.swatch { display: inline-block; width: 1em; height: 1em; margin-right: 0.4em;
  vertical-align: -0.12em; border: 1px solid #1a1a1a; }
@media (max-width: 40rem) {
  body { padding: 0.7rem; }
  th, td { padding: 0.2rem 0.3rem; font-size: 0.8rem; }
  .panels { grid-template-columns: repeat(2, 1fr); }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .panels { grid-template-columns: repeat(4, 1fr); }
  .shown, .chart, table, tr { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .swatch, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def page(title: str, body: str) -> str:
    """A page of its own.

    Args:
        title: As text.
        body: As HTML.
    """
    return _PAGE.substitute(title=escape(title), style=_STYLE, body=body)


def table(
    caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False
) -> str:
    """A table; the first cell of each row is its heading.

    Args:
        caption: As text.
        head: Headings of the columns, as text.
        rows: A text for the heading, then cells as HTML.
        words: Whether cells are words, which may be broken, and not numbers.
    """
    columns = ''.join(f'<th scope="col">{escape(each)}</th>' for each in head)
    lines = ''.join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + ''.join(f'<td>{cell}</td>' for cell in cells)
        + '</tr>\n'
        for first, *cells in rows
    )
    kind = ' class="words"' if words else ''
    return (
        f'<table{kind}>\n<caption>{escape(caption)}</caption>\n'
        f'<thead><tr>{columns}</tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n'
    )


def picture(image: Image.Image, alt: str, caption: str, largest: int = 800) -> str:
    """A figure with the picture inside.

    Args:
        image: The picture.
        alt: What it shows, as text.
        caption: As text.
        largest: Its longer side is made so small, in pixels.
    """
    image = image.copy()
    image.thumbnail((largest, largest))
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=88)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="{image.width}" '
        f'height="{image.height}" alt="{escape(alt)}"><figcaption>{escape(caption)}</figcaption>'
        '</figure>\n'
    )


def legend(colours: dict[str, tuple]) -> str:
    """Names with their colours.

    Args:
        colours: Name -> (red, green, blue).
    """
    items = ''.join(
        f'<li><span class="swatch" style="background: rgb({red:d}, {green:d}, {blue:d})"></span>'
        f'{escape(name)}</li>\n'
        for name, (red, green, blue) in colours.items()
    )
    return f'<ul class="legend">\n{items}</ul>\n'
