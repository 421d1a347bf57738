"""The metafiles and READMEs say what the configs are; published figures are docs/papers.md's."""

import runpy
from pathlib import Path

import pytest
import torch
import yaml

ROOT = Path(__file__).resolve().parents[2]
_TOOL = runpy.run_path(str(ROOT / 'tools/misc/model_zoo.py'))
NOT_TRAINED, SHAPES = _TOOL['NOT_TRAINED'], _TOOL['SHAPES']
config_metadata, cost_key = _TOOL['config_metadata'], _TOOL['cost_key']
format_table, update_metafile = _TOOL['format_table'], _TOOL['update_metafile']
METAFILES = {
    folder: yaml.safe_load((ROOT / 'configs' / folder / 'metafile.yml').read_text())
    for folder in SHAPES
}


DELIVERY = 'model.backbone.pe_delivery'


def rows():
    return [model for metafile in METAFILES.values() for model in metafile['Models']]


def row(name, delivery=None):
    """The row of a config, or that of the config with another delivery."""
    options = {} if delivery is None else {DELIVERY: delivery}
    (found,) = (
        model
        for model in rows()
        if Path(model['Config']).stem == name and model.get('Options', {}) == options
    )
    return found


def test_the_index_lists_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index['Import'] == [f'configs/{folder}/metafile.yml' for folder in SHAPES]
    left_out = {'_base_', 'sample'}
    folders = {path.name for path in (ROOT / 'configs').iterdir() if path.is_dir()}
    assert folders - left_out == set(SHAPES)


@pytest.mark.parametrize('folder', SHAPES)
def test_every_config_has_a_row(folder):
    models = METAFILES[folder]['Models']
    files = {f'configs/{folder}/{path.name}' for path in (ROOT / 'configs' / folder).glob('*.py')}
    plain = [model['Config'] for model in models if 'Options' not in model]
    assert set(plain) == files and len(plain) == len(files)
    # mmengine's get_config takes the first row of a config, whose name is the config's.
    first = {}
    for model in models:
        first.setdefault(model['Config'], model['Name'])
    assert first == {file: Path(file).stem for file in files}
    assert len({model['Name'] for model in models}) == len(models)
    (collection,) = METAFILES[folder]['Collections']
    assert {model['In Collection'] for model in models} == {collection['Name']}
    assert (ROOT / collection['README']).exists()


@pytest.mark.parametrize('folder', SHAPES)
def test_metafiles_say_what_the_configs_are(folder):
    # Without memory for the weights, but for Segmenter's decoder, which reads values when built.
    with torch.device('cpu' if folder == 'segmenter' else 'meta'):
        expected = update_metafile(ROOT / 'configs' / folder, METAFILES[folder])
    assert expected == METAFILES[folder]


def test_a_model_that_changed_is_counted_again(tmp_path):
    folder = tmp_path / 'configs/classification'
    folder.mkdir(parents=True)
    leaf = folder / 'vit-t_mpvg_8xb128-300e_in1k.py'
    base = f"_base_ = '{ROOT}/configs/classification/{leaf.name}'\n"
    leaf.write_text(base)
    metafile = update_metafile(folder, METAFILES['classification'])
    before, pvg_before = (model['Metadata'] for model in metafile['Models'])
    assert before['FLOPs'] == pvg_before['FLOPs'] == row(leaf.stem)['Metadata']['FLOPs']
    arch = 'dict(_delete_=True, embed_dims=192, num_layers=6, num_heads=3)'
    leaf.write_text(f'{base}model = dict(backbone=dict(arch={arch}))\n')
    after, pvg_after = (model['Metadata'] for model in update_metafile(folder, metafile)['Models'])
    assert pvg_after['FLOPs'] == after['FLOPs']
    # MPVG has one PE norm more, of 192 weights and biases.
    for mpvg, pvg in ((before, pvg_before), (after, pvg_after)):
        assert mpvg['Parameters'] - pvg['Parameters'] == 2 * 192
    assert after['FLOPs'] < 0.6 * before['FLOPs'] and after['Parameters'] < before['Parameters']


@pytest.mark.parametrize('folder', SHAPES)
def test_models_that_differ_in_nothing_that_costs_cost_the_same(folder):
    costs = {}
    for model in METAFILES[folder]['Models']:
        key = cost_key(ROOT / model['Config'], model.get('Options'))
        costs.setdefault(key, set()).add(model['Metadata']['FLOPs'])
    assert all(len(found) == 1 for found in costs.values())


@pytest.mark.parametrize(
    ('name', 'delivery'),
    [
        ('mask_rcnn_vit-t_mpvg_8xb1-ms-3x_coco', None),
        ('upernet_vit-adapter-t_mpvg_8xb1-160k_ade20k-512x512', None),
        ('segmenter-mask_vit-t_default_8xb1-160k_ade20k-512x512', 'lape'),
        ('vit-t_default_8xb128-300e_in1k', None),
        ('vit-lite_mpvg_1xb128-310e_cifar100', None),
    ],
)
def test_multiply_adds_are_counted_from_the_config(name, delivery):
    model = row(name, delivery)
    config, options = ROOT / model['Config'], model.get('Options')
    counted = {
        **config_metadata(config, options=options),
        'Counted Model': cost_key(config, options),
    }
    assert counted == model['Metadata']


@pytest.mark.parametrize('folder', SHAPES)
def test_readmes_hold_the_table_of_their_metafile(folder):
    text = (ROOT / 'configs' / folder / 'README.md').read_text()
    between = text.split('<!-- models: written by tools/misc/model_zoo.py -->')[1]
    assert between.split('<!-- end of models -->')[0].strip() == format_table(METAFILES[folder])


# docs/papers.md, section 1: box / mask AP, and mIoU.
PUBLISHED = {
    'mask_rcnn_vit-adapter-t_{}_8xb1-ms-3x_coco': {
        'default': {'box AP': 45.9, 'mask AP': 41.0},
        'lape': {'box AP': 46.2, 'mask AP': 41.2},
        'pvg': {'box AP': 46.1, 'mask AP': 41.2},
        'mpvg': {'box AP': 46.5, 'mask AP': 41.4},
    },
    'upernet_vit-adapter-t_{}_8xb1-160k_ade20k-512x512': {
        'default': {'mIoU': 40.55},
        'lape': {'mIoU': 41.42},
        'pvg': {'mIoU': 41.07},
        'mpvg': {'mIoU': 41.69},
    },
    'vit-t_{}_8xb128-300e_in1k': {
        'default': {'top 1': 72.14},
        'lape': {'top 1': 72.94},
        'pvg': {'top 1': 73.17},
        'mpvg': {'top 1': 73.51},
    },
}


def published_row(pattern, delivery):
    """The row of a delivery: a config's own, or a config's with the delivery as an option."""
    own = pattern.format(delivery)
    if any(model['Name'] == own for model in rows()):
        return row(own)
    has_class_token = pattern.startswith('vit-t') and delivery == 'lape'
    return row(pattern.format('default' if has_class_token else 'mpvg'), delivery)


@pytest.mark.parametrize(
    ('pattern', 'delivery'), [(pattern, d) for pattern in PUBLISHED for d in PUBLISHED[pattern]]
)
def test_published_figures_of_the_mpvg_paper(pattern, delivery):
    model = published_row(pattern, delivery)
    figures = {entry['Source']: entry['Metrics'] for entry in model['Published']}
    assert figures['MPVG, AAAI 2025'] == PUBLISHED[pattern][delivery]


# docs/papers.md, section 1: LaPE's rows are of the mask decoder, on DeiT with the row's delivery.
@pytest.mark.parametrize(
    ('size', 'delivery', 'mean_iou'),
    [('t', None, 36.534), ('t', 'lape', 37.908), ('s', None, 42.374), ('s', 'lape', 42.808)],
)
def test_published_rows_of_segmenter_name_decoder_and_weights(size, delivery, mean_iou):
    model = row(f'segmenter-mask_vit-{size}_default_8xb1-160k_ade20k-512x512', delivery)
    (published,) = model['Published']
    assert published['Metrics'] == {'mIoU': mean_iou}
    start = f'DeiT-{"Ti" if size == "t" else "S"}{" with LaPE" if delivery else ""}'
    decoder = f'Seg-{size.upper()}-Mask/16'
    assert published['Source'] == f'LaPE, ICCV 2023: {decoder} from {start}, mean of 5 seeds'
    assert model['Metadata']['Pre-training'] == 'DeiT, ImageNet-1K'
    others = [m for m in METAFILES['segmenter']['Models'] if 'Published' in m]
    assert len(others) == 4 and all('segmenter-mask' in m['Name'] for m in others)


def test_published_and_measured_stand_apart():
    metadata = {
        'Training Data': 'COCO 2017', 'Pre-training': 'none', 'Schedule': '1 epochs',
        'Batch Size': 8, 'Parameters': 1_230_000, 'FLOPs': 4_560_000_000, 'Image Size': '8x8',
    }  # fmt: skip
    model = {'Name': 'a', 'Config': 'configs/b/a.py', 'Metadata': metadata}
    published = {'Published': [{'Metrics': {'box AP': 1.5}, 'Source': 'them'}]}
    measured = {'Results': [{'Metrics': {'box AP': 1.25}}]}
    lines = [
        format_table({'Models': [{**model, **extra}]}).splitlines()[-1].split(' | ')
        for extra in ({}, published, {**published, **measured})
    ]
    assert [line[-2:] for line in lines] == [
        ['-', f'{NOT_TRAINED} |'],
        ['box AP 1.5 (them)', f'{NOT_TRAINED} |'],
        ['box AP 1.5 (them)', 'box AP 1.25 |'],
    ]
    assert lines[0][4:6] == ['1.23', '4.56 at 8x8']


def test_options_stand_beside_the_config():
    model = row('mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco', 'lape')
    file = 'mask_rcnn_vit-adapter-t_mpvg_8xb1-ms-3x_coco.py'
    assert model['Name'] == f'{Path(file).stem} {DELIVERY}=lape'
    cells = format_table({'Models': [model]}).splitlines()[-1].split(' | ')
    assert cells[:2] == [f'| [{Path(file).stem}]({file})', f'`{DELIVERY}=lape`']


def test_nothing_is_claimed_as_measured():
    """No model of these tables was trained by this project yet; whoever does changes this test."""
    assert not any(model.get('Results') or model.get('Weights') for model in rows())
