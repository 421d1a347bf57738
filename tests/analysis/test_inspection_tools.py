"""The scripts that look into models, on the sample images and untrained models."""

import csv
import json
import shutil

import numpy as np
import pytest

CONFIG = 'configs/sample/classifier_vit_mpvg_sample.py'


@pytest.fixture
def models(repo):
    config = repo / CONFIG
    return ['--model', config, 'none', '--model', config, 'none', '--names', 'one', 'other']


def rows_of(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_counterbalance(run_tool, models, sample_data, tmp_path, capsys):
    run_tool(
        'analysis_tools/counterbalance.py',
        sample_data / 'images/val',
        *models,
        *('--out', tmp_path / 'new', '--num-images', 3, '--batch-size', 2, '--size', '32x48'),
    )
    written = {path.name for path in (tmp_path / 'new').iterdir()}
    stems = {'correlation', 'last_norm', 'embeddings_one', 'embeddings_other'}
    assert {f'{stem}.png' for stem in stems} < written
    rows = rows_of(tmp_path / 'new/correlation.csv')
    assert len(rows) == 2 * 2 * 2 * 6 and {row['images'] for row in rows} == {'3'}
    ends = json.loads((tmp_path / 'new/last_norm.json').read_text())
    assert np.shape(ends['one']['cosine']) == (4, 6)
    maps = np.load(tmp_path / 'new/embeddings_one.npz')
    assert maps['embeddings'].shape == (6, 24, 128) and maps['pe_1'].shape == (24, 128)
    assert 'pe_0' not in maps
    assert '| one | - ' in capsys.readouterr().out


def test_receptive_field(run_tool, repo, sample_data, tmp_path, capsys):
    run_tool(
        'analysis_tools/receptive_field.py',
        sample_data / 'images/val',
        *('--model', repo / CONFIG, 'none', '--names', 'one', '--num-images', 1),
        *('--cfg-options', 'model.backbone.gaussian_bias=head'),
        *('--out', tmp_path, '--sizes', '32', '24x40', '--states', 'as it is', 'zeroed'),
    )
    written = {path.name for path in tmp_path.iterdir()}
    assert {'fields.png', 'fields_one_32x32.png', 'fields_one_24x40.png'} < written
    rows = rows_of(tmp_path / 'fields.csv')
    assert len(rows) == 2 * 2 * 7
    row = rows[0]
    assert float(row['sigma_y']) / 8 == pytest.approx(float(row['sigma_y_patches']))
    assert np.load(tmp_path / 'fields_one_24x40.npz')['zeroed, block 5'].shape == (24, 40)
    biases = rows_of(tmp_path / 'gaussian_bias.csv')
    assert len(biases) == 6 * 4 and biases[0]['sigma (patches)'] == '5.0'
    assert '| one | 0 | 1.00, 1.00, 1.00, 1.00 | 5.00,' in capsys.readouterr().out


def test_pe_similarity(run_tool, models, tmp_path, capsys):
    run_tool('analysis_tools/pe_similarity.py', *models, '--out', tmp_path, '--grids', '4x4', '6x3')
    written = {path.name for path in tmp_path.iterdir()}
    expected = {f'mosaics_{name}_{g}.png' for name in ('one', 'other') for g in ('4x4', '6x3')}
    assert expected < written
    mosaics = np.load(tmp_path / 'mosaics_one_6x3.npz')
    assert mosaics['block 5'].shape == (6, 3, 6, 3) and 'block 0' not in mosaics
    rows = rows_of(tmp_path / 'distortions_one.csv')
    # Table, five blocks and the last norm; two grids; three kernels.
    assert len(rows) == 7 * 2 * 3
    own = [float(row['error']) for row in rows if row['grid'] == '(4, 4)']
    assert max(own) < 1e-6
    assert '| 6x3 | bilinear |' in capsys.readouterr().out


def test_names_with_dots_keep_their_files_apart(run_tool, models, tmp_path):
    # A dollar is not the start of a formula either.
    names = ['--names', 'v1.5 $x^$', 'v1.6 $x^$']
    run_tool(
        'analysis_tools/pe_similarity.py', *models[:6], *names, '--out', tmp_path, '--grids', '2x3'
    )
    for name in names[1:]:
        for stem in (f'mosaics_{name}_4x4', f'mosaics_{name}_2x3', f'distortions_{name}'):
            assert (tmp_path / f'{stem}.png').is_file(), stem


def test_a_broken_image_is_left_out(run_tool, models, sample_data, tmp_path, capsys):
    images = tmp_path / 'images'
    shutil.copytree(sample_data / 'images/val', images)
    (images / 'broken.jpg').write_bytes((images / '000000.jpg').read_bytes()[:2000])
    run_tool(
        'analysis_tools/counterbalance.py', images, *models[:3], '--out', tmp_path, '--size', '32'
    )
    rows = rows_of(tmp_path / 'correlation.csv')
    assert {(row['images'], row['grid']) for row in rows} == {('4', '4x4')}
    assert 'broken.jpg cannot be used' in capsys.readouterr().err


def test_results_among_the_images_are_not_looked_at(run_tool, models, sample_data, tmp_path):
    images = tmp_path / 'images'
    shutil.copytree(sample_data / 'images/val', images)
    for _ in range(2):
        arguments = (images, *models, '--out', images / 'look', '--size', '32')
        run_tool('analysis_tools/counterbalance.py', *arguments)
        rows = rows_of(images / 'look/correlation.csv')
        assert {row['images'] for row in rows} == {'4'}
    with pytest.raises(SystemExit):
        run_tool('analysis_tools/counterbalance.py', images, *models, '--out', images)


def test_what_does_not_fit_is_refused(run_tool, repo, models, tmp_path, capsys):
    tool = 'analysis_tools/pe_similarity.py'
    refused = {
        '2 models need 2 --names, got 1': models[:-1],
        'models need --names of their own, got one, one': [*models[:-1], 'one'],
        "which 'a/b' cannot be": [*models[:-1], 'a/b'],
        "'4by4' is no size; write 224x320": [*models, '--grids', '4by4'],
        "'0x4' is no size": [*models, '--grids', '0x4'],
        "'0' is no whole number from 1 on": [*models, '--tiles', '0'],
        "device 'toaster' cannot be used": [*models, '--device', 'toaster'],
        # Of the second, before the first is looked at.
        'absent.pth does not exist': [*models[:5], 'absent.pth', *models[6:]],
    }
    for message, arguments in refused.items():
        with pytest.raises(SystemExit):
            run_tool(tool, *arguments, '--out', tmp_path / 'nothing')
        assert message in capsys.readouterr().err
    assert not (tmp_path / 'nothing').exists()
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit):
        run_tool(tool, *models, '--out', tmp_path / 'file')
    assert 'file is a file; give a folder' in capsys.readouterr().err
    without = ['model.backbone.pe_type=None', 'model.backbone.pe_delivery=none']
    run_tool(tool, *models[:3], '--out', tmp_path, '--cfg-options', *without)
    assert 'has no position embedding: left out' in capsys.readouterr().err
