"""The digits: whole, reproducible, and never at the cost of what lies there."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mmpvg.datasets.sample import DIGIT_CLASSES, make_digits_dataset


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob('*.*'))}


def test_it_holds_scikit_learns_digits(tmp_path):
    counts = make_digits_dataset(tmp_path / 'digits', scale=3)
    digits = load_digits()
    assert sum(counts.values()) == len(digits.images)
    for path in list((tmp_path / 'digits').glob('*/*/*.png'))[::97]:
        index = int(path.stem)
        assert path.parent.name == DIGIT_CLASSES[digits.target[index]]
        pixels = np.asarray(Image.open(path))
        assert pixels.shape == (24, 24)
        assert np.array_equal(pixels[1::3, 1::3], np.uint8(digits.images[index] * 255 / 16))


def test_every_class_is_in_both_splits_and_no_image_twice(tmp_path):
    make_digits_dataset(tmp_path / 'digits')
    stems = [path.stem for path in (tmp_path / 'digits').glob('*/*/*.png')]
    assert len(stems) == len(set(stems))
    for split in ('train', 'val'):
        assert sorted(p.name for p in (tmp_path / 'digits' / split).iterdir()) == [*DIGIT_CLASSES]


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name, seed in (('a', 0), ('b', 0), ('c', 1)):
        make_digits_dataset(tmp_path / name, seed=seed)
    assert files(tmp_path / 'a') == files(tmp_path / 'b')
    assert set(files(tmp_path / 'a')) != set(files(tmp_path / 'c'))


def test_what_lies_there_is_kept(tmp_path):
    folder = tmp_path / 'digits'
    counts = make_digits_dataset(folder)
    before = files(folder)
    assert make_digits_dataset(folder) == counts
    assert files(folder) == before
    with pytest.raises(FileExistsError, match='seed 0.*seed 1'):
        make_digits_dataset(folder, seed=1)
    next(folder.glob('val/3/*.png')).unlink()
    with pytest.raises(FileExistsError, match="'val': 358"):
        make_digits_dataset(folder)
    assert make_digits_dataset(folder, force=True) == counts
    assert files(folder) == before
    other = tmp_path / 'mine'
    other.mkdir()
    (other / 'thesis.txt').write_text('precious')
    with pytest.raises(FileExistsError, match='left alone'):
        make_digits_dataset(other, force=True)


def test_errors_of_the_tool_are_one_line(tmp_path, repo):
    command = [sys.executable, repo / 'tools/make_digits_dataset.py', '--out', tmp_path / 'd']
    done = subprocess.run([*command, '--scale', '0'], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith('error: scale')
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and '1438 images to train on' in done.stdout
    without = (
        'import runpy, sys; sys.modules["sklearn"] = None; '
        f'sys.argv = ["x", "--out", {str(tmp_path / "e")!r}]; '
        f'runpy.run_path({str(command[1])!r}, run_name="__main__")'
    )
    done = subprocess.run([sys.executable, '-c', without], capture_output=True, text=True)
    assert done.returncode == 1 and 'pip install scikit-learn' in done.stderr
