"""Pages are well-formed and hold nothing but what they were given, whatever it is called."""

import base64
import importlib.util
import io
from pathlib import Path

import pytest
from PIL import Image

from mmpvg.comparison.difference_chart import draw_differences
from mmpvg.comparison.html_page import legend, page, picture, table

HOSTILE = '"><script>alert(\'&amp;\')</script><b x="'


@pytest.fixture(scope='module')
def read():
    spec = importlib.util.spec_from_file_location(
        'html_reader', Path(__file__).with_name('html_reader.py')
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Page


def test_names_are_text(read):
    image = Image.new('RGB', (40, 30), (200, 20, 20))
    parts = [
        table(HOSTILE, ['', HOSTILE], [(HOSTILE, '<strong>1</strong>')]),
        picture(image, alt=HOSTILE, caption=HOSTILE),
        legend({HOSTILE: (1, 2, 3)}),
        draw_differences([0.5, -1.0], [0.5], (HOSTILE, HOSTILE), HOSTILE),
    ]
    told = read(page(HOSTILE, ''.join(parts)))
    assert not told.count('script') and not told.count('b')
    assert told.count('strong') == 1
    # Title, heading, three of the table, caption, legend, and three of the chart.
    assert told.text.count(HOSTILE) == 10
    (alt,) = [attributes['alt'] for tag, attributes in told.elements if tag == 'img']
    assert alt == HOSTILE
    (label,) = [attributes['aria-label'] for tag, attributes in told.elements if tag == 'svg']
    assert HOSTILE in label
    assert told.cells == [['', HOSTILE], [HOSTILE, '1']]


def test_pictures_are_inside(read):
    image = Image.new('RGB', (1600, 400), (200, 20, 20))
    ((_, attributes),) = [
        each for each in read(picture(image, 'red', 'red')).elements if each[0] == 'img'
    ]
    kind, data = attributes['src'].split(',')
    assert kind == 'data:image/jpeg;base64'
    with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
        assert shown.size == (800, 200) == (int(attributes['width']), int(attributes['height']))
        assert max(abs(a - b) for a, b in zip(shown.getpixel((400, 100)), (200, 20, 20))) < 5


def test_a_histogram_counts_every_image_on_its_side(read):
    differences = [0.0, 0.02, -0.02, 0.5, 0.5, 1.0, -0.6]
    told = read(draw_differences(differences, [1.0, -0.6], ('A', 'B'), 'F1'))
    bars = [attributes for tag, attributes in told.elements if tag == 'rect']
    middle = [float(bar['x']) + float(bar['width']) / 2 for bar in bars]
    sides = [(x > 241) - (x < 239) for x in middle]
    assert sides == [-1, 0, 1, 1]
    heights = [float(bar['height']) for bar in bars]
    assert heights[1] / heights[0] == pytest.approx(3, rel=0.01)
    assert heights[2] / heights[0] == pytest.approx(2, rel=0.01)
    # Vermilion where B is worse, blue where it is better.
    assert [bar['fill'] for bar in bars] == ['#D55E00', '#777777', '#0072B2', '#0072B2']
    # The axis, zero, and a tick for each that is marked.
    assert told.count('path') == 2 + 2
    assert read(draw_differences([0.0, 0.0], [], ('A', 'B'), 'F1')).count('rect') == 1
