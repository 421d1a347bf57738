"""Pictures and charts of a page hold what they were given."""

import base64
import io

import pytest
from matplotlib.colors import to_hex
from PIL import Image

from mmpvg.comparison.pictures import (
    describe_differences,
    draw_differences,
    embed_figure,
    embed_picture,
)


def test_pictures_are_inside():
    panel = embed_picture(Image.new('RGB', (1600, 400), (200, 20, 20)), 'red', 'a caption')
    kind, data = panel.source.split(',')
    assert kind == 'data:image/jpeg;base64'
    assert (panel.alt, panel.caption) == ('red', 'a caption')
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (800, 200) == (panel.width, panel.height)
        assert max(abs(a - b) for a, b in zip(shown.getpixel((400, 100)), (200, 20, 20))) < 5


def test_a_histogram_counts_every_image_on_its_side():
    differences = [0.0, 0.02, -0.02, 0.5, 0.5, 1.0, -0.6]
    names = 'A $x$', 'B'
    figure = draw_differences(differences, [1.0, -0.6], names, 'F1')
    (axis,) = figure.axes
    bars = sorted(axis.patches, key=lambda bar: bar.get_x())
    middle = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert middle == pytest.approx([-0.571, 0, 0.476, 0.952], abs=1e-3)
    assert [bar.get_height() for bar in bars] == [1, 3, 2, 1]
    # Vermilion where B is worse, blue where it is better.
    colors = [to_hex(bar.get_facecolor()).upper() for bar in bars]
    assert colors == ['#D55E00', '#777777', '#0072B2', '#0072B2']
    marks = [line for line in axis.lines if line.get_marker() == '|']
    assert [list(line.get_xdata()) for line in marks] == [[1.0, -0.6]]
    # A name is no formula.
    assert axis.get_title(loc='left') == '◀ A $x$ better' and 'B' in axis.get_title(loc='right')
    drawn = embed_figure(figure)
    again = embed_figure(draw_differences(differences, [1.0, -0.6], names, 'F1'))
    kind, data = drawn.split(',')
    assert kind == 'data:image/svg+xml;base64'
    assert base64.b64decode(data).rstrip().endswith(b'</svg>')
    assert 'from -0.6 to +1' in describe_differences(differences, names, 'F1')
    assert drawn == again
    (axis,) = draw_differences([0.0, 0.0], [], names, 'F1').axes
    assert len(axis.patches) == 1
