"""Missing data is named before anything is built."""

import pytest
from mmengine.config import Config

from mmpvg.engine.config.preflight import check_data_files


def config(root, **dataset):
    base = dict(data_root=str(root), ann_file='train.json', data_prefix=dict(img='images/'))
    return Config(dict(train_dataloader=dict(dataset={**base, **dataset})))


@pytest.fixture
def data(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'train.json').write_text('{}')
    return tmp_path


def test_complete_data_passes(data):
    check_data_files(config(data), 'train', 'val')


@pytest.mark.parametrize(
    ('dataset', 'message'),
    [
        (dict(ann_file='val.json'), r'train_dataloader.dataset.ann_file points to \S*val.json'),
        (dict(data_prefix=dict(img_path='jpg')), r'data_prefix.img_path points to \S*jpg'),
        (dict(data_root='/nowhere'), r'--cfg-options train_dataloader.dataset.data_root=FOLDER'),
    ],
)
def test_missing_data_is_named(data, dataset, message):
    with pytest.raises(FileNotFoundError, match=message):
        check_data_files(config(data, **dataset), 'train')


def test_wrapped_data_sets_are_looked_into(data):
    inner = config(data, ann_file='gone.json').train_dataloader.dataset
    for wrapper in (dict(dataset=inner), dict(datasets=[inner])):
        with pytest.raises(FileNotFoundError, match='gone.json'):
            check_data_files(Config(dict(test_dataloader=dict(dataset=wrapper))), 'test')


@pytest.mark.parametrize(
    'root, settings',
    [
        (
            'http://a.org/',
            dict(ann_file='http://a.org/b.json', data_prefix=dict(img='http://a.org/')),
        ),
        ('s3://bucket/coco/', {}),
        ('', dict(ann_file='https://a.org/b.json', data_prefix=dict(img='https://a.org/'))),
    ],
)
def test_data_behind_a_url_is_not_looked_for(root, settings):
    check_data_files(config(root, **settings), 'train')
    with pytest.raises(ValueError, match='pickle'):
        check_data_files(config(root, ann_file='http://a.org/b.pkl'), 'train')


def test_paths_below_an_http_url_are_refused():
    with pytest.raises(ValueError, match='finds no files; set data_root="" and .*ann_file'):
        check_data_files(config('http://a.org/coco/'), 'train')


def test_remote_data_is_not_looked_for(data):
    cfg = config('s3://bucket', backend_args=dict(backend='petrel'))
    check_data_files(cfg, 'train')


def test_data_of_the_local_backend_is_looked_for(data):
    cfg = config(data, ann_file='gone.json', backend_args=dict(backend='local'))
    with pytest.raises(FileNotFoundError, match='gone.json'):
        check_data_files(cfg, 'train')
