"""Which checkpoint a run starts from."""

import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmpvg.checkpoints.resume import latest_checkpoint, resume_from, resume_from_latest


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tiny_run):
    folder = tmp_path_factory.mktemp('trained') / 'run'
    tiny_run(folder, epochs=3).train()
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    shutil.copytree(trained, tmp_path / 'run')
    (tmp_path / 'run/last_checkpoint').write_text(str(tmp_path / 'run/epoch_3.pth'))
    return tmp_path / 'run'


def leave_weights(path, *removed):
    content = torch.load(path, weights_only=False)
    for key in removed or ('optimizer', 'param_schedulers'):
        content.pop(key, None)
    torch.save(content, path.with_name('best_score_epoch_3.pth'))


def flip_a_bit(path):
    """In a tensor: the file is a zip archive as before, and torch reads it."""
    content = bytearray(path.read_bytes())
    weight = torch.load(path, weights_only=False)['state_dict']['layer.weight']
    content[content.index(weight.numpy().tobytes()) + 3] ^= 0x40
    path.write_bytes(content)
    assert torch.load(path, weights_only=False)


def test_the_latest_is_found(folder):
    assert latest_checkpoint(folder) == str(folder / 'epoch_3.pth')


def test_in_a_folder_that_was_moved(folder, tmp_path):
    shutil.move(folder, tmp_path / 'elsewhere')
    assert latest_checkpoint(tmp_path / 'elsewhere') == str(tmp_path / 'elsewhere/epoch_3.pth')


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'gone', 'a bit'])
def test_a_damaged_one_is_passed_over(folder, damage):
    last = folder / 'epoch_3.pth'
    # Newer than epoch_2.pth, but without the state of the optimizer.
    leave_weights(last)
    if damage == 'gone':
        last.unlink()
    elif damage == 'a bit':
        flip_a_bit(last)
    else:
        whole = last.read_bytes()
        last.write_bytes(whole[: len(whole) // 2] if damage == 'truncated' else b'')
    assert latest_checkpoint(folder) == str(folder / 'epoch_2.pth')


@pytest.mark.parametrize(
    'content',
    [
        None,
        b'',
        b'\n',
        b'\xff\x00\xfe' * 9,
        b'a/\0b',
        b'a' * 5000,
        b'no/such/file.pth',
        b'one\ntwo',
    ],
    ids=['gone', 'empty', 'line', 'binary', 'null', 'long', 'unknown', 'lines'],
)
def test_without_last_checkpoint_the_newest_is_found(folder, content):
    leave_weights(folder / 'epoch_3.pth')
    (folder / 'last_checkpoint').unlink()
    if content is not None:
        (folder / 'last_checkpoint').write_bytes(content)
    assert latest_checkpoint(folder) == str(folder / 'epoch_3.pth')


def test_none_is_whole(folder):
    leave_weights(folder / 'epoch_3.pth')
    for path in folder.glob('epoch_*.pth'):
        path.write_bytes(path.read_bytes()[:100])
    for _ in range(2):
        with pytest.raises(ValueError, match='no whole checkpoint.*train from the beginning'):
            latest_checkpoint(folder)
        (folder / 'last_checkpoint').unlink(missing_ok=True)


def test_weights_in_a_folder_without_a_run_are_no_run(folder, tmp_path):
    (tmp_path / 'new').mkdir()
    leave_weights(folder / 'epoch_3.pth', 'optimizer', 'meta', 'message_hub')
    shutil.move(folder / 'best_score_epoch_3.pth', tmp_path / 'new/pretrained.pth')
    assert latest_checkpoint(tmp_path / 'new') is None


def test_nothing_to_resume_leaves_load_from(folder, tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path / 'new'), load_from='weights.pth', resume=True))
    resume_from_latest(cfg)
    assert cfg.load_from == 'weights.pth' and cfg.resume is False
    cfg.work_dir = str(folder)
    resume_from_latest(cfg)
    assert cfg.load_from == str(Path(folder) / 'epoch_3.pth') and cfg.resume is True


def test_a_run_that_is_started_again_goes_on_from_its_own(folder, tiny_run, tmp_path, monkeypatch):
    """``--resume FILE`` of a job that is requeued, in a folder with checkpoints of other runs."""
    file = str(folder / 'epoch_1.pth')

    def chosen():
        cfg = Config(dict(work_dir=str(folder)))
        resume_from(cfg, file)
        assert cfg.resume is True
        return Path(cfg.load_from).name

    assert chosen() == 'epoch_1.pth'
    monkeypatch.setenv('MMPVG_RUN', 'a job')
    assert chosen() == 'epoch_1.pth'
    # The job starts, and is stopped after its first epoch.
    first = tiny_run(folder, epochs=2)
    first._resume, first._load_from = True, file
    first.train()
    assert chosen() == 'epoch_2.pth'
    (folder / 'epoch_2.pth').write_bytes(b'damaged')
    assert chosen() == 'epoch_1.pth'
    monkeypatch.setenv('MMPVG_RUN', 'another job')
    assert chosen() == 'epoch_1.pth'
