"""Damage of checkpoint files is found wherever it is."""

import random
import zipfile

import pytest
import torch

from mmpvg.checkpoints.safe_load import find_damage


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(w=torch.arange(5000.0), b=torch.ones(3)), meta=dict(a=1)), path)
    return path


def test_whole(checkpoint):
    assert find_damage(checkpoint) is None
    assert find_damage(str(checkpoint)) is None


def test_a_flipped_bit_anywhere_in_a_member(checkpoint):
    content = checkpoint.read_bytes()
    draw = random.Random(0)
    for info in zipfile.ZipFile(checkpoint).infolist():
        # The local header is 30 bytes, the name, and the padding with which torch aligns tensors.
        begin = info.header_offset + 28
        extra = int.from_bytes(content[begin : begin + 2], 'little')
        begin += 2 + len(info.filename) + extra
        for _ in range(3):
            broken = bytearray(content)
            broken[begin + draw.randrange(info.file_size)] ^= 1 << draw.randrange(8)
            checkpoint.write_bytes(broken)
            assert info.filename in find_damage(checkpoint)


def test_torch_reads_on_without_a_word(checkpoint):
    """Why the checksums are verified here."""
    content = bytearray(checkpoint.read_bytes())
    place = content.index(torch.arange(5000.0).numpy().tobytes())
    content[place + 3] ^= 0x40
    checkpoint.write_bytes(content)
    assert torch.load(checkpoint, weights_only=True)['state_dict']['w'][0] == 2.0
    assert find_damage(checkpoint) is not None


@pytest.mark.parametrize('left', [0, 1, 4, 100, 10_000, -1, -22, -100])
def test_truncated(checkpoint, left):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:left])
    assert find_damage(checkpoint)


def test_any_byte_of_the_directory(checkpoint):
    """Whatever a damaged directory of members makes zipfile raise, it is returned, not raised."""
    content = checkpoint.read_bytes()
    begin = zipfile.ZipFile(checkpoint).start_dir
    for place in range(begin, len(content), 7):
        broken = bytearray(content)
        broken[place] ^= 0xFF
        checkpoint.write_bytes(broken)
        found = find_damage(checkpoint)
        assert found is None or isinstance(found, str)


def test_other_files(tmp_path):
    (tmp_path / 'text').write_text('version https://git-lfs')
    assert 'not a zip' in find_damage(tmp_path / 'text')
    with zipfile.ZipFile(tmp_path / 'zip', 'w') as archive:
        archive.writestr('a', 'b')
    assert 'not one of torch.save' in find_damage(tmp_path / 'zip')
    with pytest.raises(OSError):
        find_damage(tmp_path / 'none')


def repacked(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def test_what_torch_save_never_writes(checkpoint, tmp_path):
    with zipfile.ZipFile(checkpoint) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        members = [(name, archive.read(name)) for name in archive.namelist()]
    assert find_damage(repacked(tmp_path / 'b.pth', members)) is None
    bomb = [*members, ('a/data/9', bytes(10_000_000))]
    path = repacked(tmp_path / 'c.pth', bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert 'compressed, which torch.save never does' in find_damage(path)
    twice = [*members, ('a/DATA.pkl', b'')]
    assert 'two members of one name' in find_damage(repacked(tmp_path / 'd.pth', twice))
