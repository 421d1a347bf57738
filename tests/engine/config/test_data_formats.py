"""Files in formats that run code are refused before anything is built."""

import pytest
from mmengine.config import Config

from mmpvg.checkpoints import RefusedFileError
from mmpvg.engine.config.preflight import check_data_files, refuse_code_in_data


@pytest.mark.parametrize('file', ['a.pkl', 'a.pickle', 'b/a.yaml', 'a.yml', 'A.PKL'])
@pytest.mark.parametrize(
    ('place', 'key'),
    [
        (lambda f: dict(train_dataloader=dict(dataset=dict(ann_file=f))), 'dataset.ann_file'),
        (
            lambda f: dict(val_dataloader=dict(dataset=dict(dataset=dict(ann_file=f)))),
            'val_dataloader.dataset.dataset.ann_file',
        ),
        (
            lambda f: dict(val_dataloader=dict(dataset=dict(datasets=[{}, dict(ann_file=f)]))),
            'val_dataloader.dataset.datasets.1.ann_file',
        ),
        (lambda f: dict(train_dataloader=dict(dataset=dict(proposal_file=f))), 'proposal_file'),
        (lambda f: dict(val_evaluator=[{}, dict(occluded_ann=f)]), 'val_evaluator.1.occluded_ann'),
        (lambda f: dict(model=dict(head=dict(loss=dict(class_weight=f)))), 'model.head.loss.class'),
    ],
)
def test_a_file_that_would_run_code_is_named(place, key, file):
    cfg = Config(place(file))
    for check in (refuse_code_in_data, check_data_files):
        with pytest.raises(RefusedFileError, match=f'{key}.* is {file}: .*any code'):
            check(cfg, 'train', 'val')


@pytest.mark.parametrize(
    'settings',
    [
        # RefCOCO reads it as a pickle, Open Images as an array of objects.
        dict(train_dataloader=dict(dataset=dict(split_file='refcoco/refs(unc).p'))),
        dict(train_dataloader=dict(dataset=dict(hierarchy_file='class_label_tree.np'))),
        dict(
            train_dataloader=dict(
                dataset=dict(
                    pipeline=[dict(type='LoadBiomedicalImageFromFile', decode_backend='pickle')]
                )
            )
        ),
        dict(model=dict(type='ImageToImageRetriever', prototype='prototype.pth')),
    ],
)
def test_what_the_name_of_a_file_does_not_show(settings):
    with pytest.raises(RefusedFileError, match='any code'):
        refuse_code_in_data(Config(settings), 'train')


def test_other_files_pass():
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(ann_file='a.json', metainfo=dict(classes=('x.p', 'y')), pipeline=[])
            ),
            val_dataloader=dict(dataset=dict(ann_file='a.pkl')),
            test_evaluator=dict(type='DumpResults', out_file_path='out.pkl'),
            model=dict(backbone=dict(init_cfg=dict(checkpoint='model_final.pkl'))),
        )
    )
    refuse_code_in_data(cfg, 'train', 'test')
