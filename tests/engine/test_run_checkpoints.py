"""Which checkpoint a run starts from."""

import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from mmpvg.engine.run_checkpoints import latest_checkpoint, resume_from_latest


@pytest.fixture
def folder(tiny_run, tmp_path):
    tiny_run(tmp_path / 'run', epochs=3).train()
    return tmp_path / 'run'


def test_the_latest_is_found(folder):
    assert latest_checkpoint(folder) == str(folder / 'epoch_3.pth')


def test_in_a_folder_that_was_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / 'elsewhere')
    assert latest_checkpoint(tmp_path / 'elsewhere') == str(tmp_path / 'elsewhere/epoch_3.pth')


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'gone'])
def test_a_broken_one_is_passed_over(folder, damage):
    last = folder / 'epoch_3.pth'
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2] if damage == 'truncated' else b'')
    if damage == 'gone':
        last.unlink()
    assert latest_checkpoint(folder) == str(folder / 'epoch_2.pth')


def test_none_is_whole(folder):
    for path in folder.glob('*.pth'):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match='no whole checkpoint.*start anew'):
        latest_checkpoint(folder)


def test_nothing_to_resume_leaves_load_from(folder, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path / 'new'), load_from='weights.pth', resume=True))
    resume_from_latest(cfg)
    assert cfg.load_from == 'weights.pth' and cfg.resume is False
    cfg.work_dir = str(folder)
    resume_from_latest(cfg)
    assert cfg.load_from == str(Path(folder) / 'epoch_3.pth') and cfg.resume is True
