"""Two checkpoints of each task, compared by the tool: its numbers and its page."""

import csv
import importlib.util
import json

import pytest
import torch

from mmpvg.apis.cli import test as run_test
from mmpvg.engine.config.config_model import build_config_model

pytestmark = pytest.mark.slow

# Models without training find little: boxes of any class are measured too.
OPTIONS = {'mmdet': ['test_evaluator.metric=[bbox,segm,proposal]'], 'mmseg': []}
NAMES = ('<script>alert("A")</script>', "B & 'b'")


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tool(repo, monkeypatch):
    module = load(repo / 'tools/analysis_tools/compare.py')

    def run(*arguments):
        monkeypatch.setattr('sys.argv', ['compare.py', *map(str, arguments)])
        module.main()

    return run


@pytest.fixture(scope='module')
def checkpoints(task, repo, tmp_path_factory):
    folder, files = tmp_path_factory.mktemp(task.name), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        _, model = build_config_model(str(repo / task.config))
        model.init_weights()
        if task.owner == 'mmdet':
            # Masks that fill their boxes: without training no other comes near an object.
            model.roi_head.mask_head.conv_logits.bias.data.fill_(9)
        files.append(folder / f'seed_{seed}.pth')
        torch.save({'state_dict': model.state_dict(), 'meta': {}}, files[-1])
    return files


def test_numbers_and_page(task, repo, tool, checkpoints, data_options, tmp_path, capsys):
    config, out = repo / task.config, tmp_path / 'new' / 'out'
    if task.owner == 'mmpretrain':
        with pytest.raises(SystemExit):
            tool(config, *checkpoints, '--out', out)
        assert "default_scope 'mmpretrain'; detectors" in capsys.readouterr().err
        return
    options = [*data_options, *OPTIONS[task.owner]]
    tool(
        *(config, checkpoints[0], config, checkpoints[1], '--names', *NAMES, '--out', out),
        *('--num-images', 3, '--score-thr', 0.15, '--cfg-options', *options),
    )
    numbers = json.loads((out / 'metrics.json').read_text(encoding='utf-8'))
    assert (numbers['a']['name'], numbers['b']['name'], numbers['images']) == (*NAMES, 4)
    for key, checkpoint in zip('ab', checkpoints):
        given = run_test(
            [str(config), str(checkpoint), '--work-dir', str(tmp_path), '--cfg-options', *options]
        )
        measured = {name: None if value == -1 else value for name, value in given.items()}
        assert {name: row[key] for name, row in numbers['metrics'].items()} == measured
        assert any(measured.values())
    check_classes(task, numbers['by_class'], numbers['metrics'])
    with (out / 'images.csv').open() as file:
        rows = list(csv.DictReader(file))
    check_images(task, rows, config, checkpoints, options, tmp_path)
    check_page(repo, (out / 'index.html').read_text(encoding='utf-8'), numbers, rows)


def check_classes(task, by_class, metrics):
    """A metric is the mean over the classes that there are."""
    assert list(by_class) == {'mmseg': ['IoU'], 'mmdet': ['box AP', 'mask AP']}[task.owner]
    names = dict(zip(('IoU', 'box AP', 'mask AP'), ('mIoU', 'coco/bbox_mAP', 'coco/segm_mAP')))
    for metric, table in by_class.items():
        assert [name for name in table if name != 'background'] == [
            'ball', 'box', 'cone', 'star', 'ring'
        ]  # fmt: skip
        for key in 'ab':
            values = [row[key] for row in table.values() if row[key] is not None]
            mean = sum(values) / len(values)
            assert mean == pytest.approx(metrics[names[metric]][key], abs=0.011)


def check_images(task, rows, config, checkpoints, options, work_dir):
    """A segmenter's score of an image is the mIoU of a test set that is this image alone."""
    assert [row['image'].rpartition('/')[2] for row in rows] == [f'00000{i}.jpg' for i in range(4)]
    scores = [[float(row[key]) for key in ('score_a', 'score_b')] for row in rows]
    for row, (a, b) in zip(rows, scores):
        assert float(row['difference']) == b - a
    if task.owner == 'mmdet':
        return
    for place, key in ((0, 0), (2, 1)):
        alone = run_test(
            [str(config), str(checkpoints[key]), '--work-dir', str(work_dir), '--cfg-options']
            + [*options, f'test_dataloader.dataset.indices=[{place}]']
        )
        assert scores[place][key] == pytest.approx(alone['mIoU'], abs=0.006)


def check_page(repo, html, numbers, rows):
    page = load(repo / 'tests/comparison/html_reader.py').Page(html)
    assert not page.count('script') and not page.count('link')
    shown = min(3, sum(float(row['difference']) != 0 for row in rows))
    assert shown
    chart, *images = [attributes for tag, attributes in page.elements if tag == 'img']
    assert len(images) == 4 * shown and page.count('article') == shown
    assert all(each['src'].startswith('data:image/jpeg;base64,') for each in images)
    assert all(each['alt'].endswith(('.jpg', '.jpg with its ground truth')) or 'prediction' in
               each['alt'] for each in images)  # fmt: skip
    assert chart['src'].startswith('data:image/svg+xml;base64,')
    assert NAMES[1] in chart['alt']
    assert 'http:' not in html and 'https:' not in html
    assert all(name in page.text for name in NAMES)
    cells = {row[0]: row[1:] for row in page.cells}
    for name, row in numbers['metrics'].items():
        for cell, value in zip(cells[name], (row['a'], row['b'], row['difference'])):
            number = cell.replace('▲', '').replace('−', '-').strip()
            assert number == '–' if value is None else abs(float(number) - value) < 0.0051
        better = ['▲' in cell for cell in cells[name][:2]]
        difference = row['difference'] or 0
        assert better == [difference < 0, difference > 0]


def test_arguments(tool, repo, capsys):
    for arguments, message in (
        (['config.py', 'a.pth'], 'got 2: config.py a.pth'),
        (['config.py', 'a.pth', 'b.pth', '--num-images', -1], '0 or more, got -1'),
        (['config.py', 'a.pth', 'b.pth', '--names', 'x', 'x'], "got 'x' twice"),
        (['config.py', 'a.pth', 'b.pth'], 'config config.py does not exist'),
    ):
        with pytest.raises(SystemExit):
            tool(*arguments)
        assert message in capsys.readouterr().err
    names = load(repo / 'tools/analysis_tools/compare.py').own_names
    assert names(('c.py', 'c.py'), ('x/iter_1.pth', 'x/iter_2.pth')) == ('iter_1', 'iter_2')
    assert names(('c.py', 'd.py'), ('x/last.pth', 'y/last.pth')) == ('c', 'd')
    assert names(('c.py', 'c.py'), ('x/last.pth', 'y/last.pth')) == ('A', 'B')
