"""Reports where little is known, or names are unusual."""

import json

from mmpvg.apis.inference.report import PredictionReport


def test_images_of_a_video_that_does_not_tell_its_length(tmp_path):
    report = PredictionReport('a.webm', 'c.py', 'c.pth', predicted=3)
    report.start()
    report.write(tmp_path / 'report.json')
    assert report.images == 3
    assert json.loads((tmp_path / 'report.json').read_text())['images'] == 3
    assert report.summary().startswith('predicted 3 of 3 images')


def test_names_that_are_no_utf8_can_be_printed():
    report = PredictionReport('in', 'c.py', 'c.pth', images=1)
    report.fail(b'caf\xe9.jpg'.decode('utf-8', 'surrogateescape'), ValueError('broken'))
    assert 'caf\\udce9.jpg: ValueError: broken' in report.summary()
    report.summary().encode('utf-8')
