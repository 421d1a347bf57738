"""A file is there whole or not at all: killed writers, full disks, readers beside a writer."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mmpvg.utils.whole_file import PART_SUFFIX, part_of, remove_parts, whole_file, write_whole


def test_content_arrives(tmp_path):
    write_whole(tmp_path / 'new' / 'a.bin', b'12')
    write_whole(tmp_path / 'new' / 'a.bin', b'345')
    write_whole(tmp_path / 'text', 'grün')
    assert (tmp_path / 'new' / 'a.bin').read_bytes() == b'345'
    assert (tmp_path / 'text').read_text(encoding='utf-8') == 'grün'
    assert not list(tmp_path.rglob(f'*{PART_SUFFIX}'))


def test_a_reader_never_sees_a_part(tmp_path):
    path, size = tmp_path / 'file', 4_000_000
    write_whole(path, b'a' * size)
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            content = path.read_bytes()
            seen.add((len(content), len(set(content[:: size // 100]))))

    reader = threading.Thread(target=read)
    reader.start()
    for letter in b'bcdefg':
        write_whole(path, bytes([letter]) * size)
    stop.set()
    reader.join()
    assert seen == {(size, 1)}


def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path):
    path = tmp_path / 'file'
    write_whole(path, b'old')
    code = (
        'import sys; from mmpvg.utils.whole_file import write_whole\n'
        'print("go", flush=True)\n'
        'while True: write_whole(sys.argv[1], b"n" * 50_000_000)\n'
    )
    for wait in (0.0, 0.01, 0.03, 0.1):
        writer = subprocess.Popen([sys.executable, '-c', code, path], stdout=subprocess.PIPE)
        writer.stdout.readline()
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        content = path.read_bytes()
        assert content == b'old' or content == b'n' * 50_000_000
    left = set(tmp_path.iterdir()) - {path}
    assert set(remove_parts(tmp_path)) == left
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='this system has no /dev/full')
def test_a_full_disk_says_so_and_keeps_what_was_there(tmp_path, monkeypatch):
    """/dev/full stands for the disk: every write to it fails as on a full one."""
    path = tmp_path / 'file'
    write_whole(path, b'old')
    part_of(path).symlink_to('/dev/full')
    with pytest.raises(
        OSError, match=r'cannot write 3\.8 MiB to .*No space left.*is kept'
    ) as error:
        write_whole(path, b'new ' * 1_000_000)
    assert error.value.errno == 28 and 'resume' not in str(error.value)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    code = (
        'import sys; from mmpvg.utils.whole_file import whole_file\n'
        'with whole_file(sys.argv[1]) as part:\n'
        '    part.write_bytes(b"ha"); print("go", flush=True); sys.stdin.read()\n'
        '    part.open("ab").write(b"lf")\n'
    )
    path = tmp_path / 'file'
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, '-c', code, path], **pipes) as writer:
        writer.stdout.readline()
        (part,) = tmp_path.iterdir()
        assert remove_parts(tmp_path) == [] and part.read_bytes() == b'ha'
        writer.stdin.close()
    assert writer.returncode == 0 and list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b'half'


def test_what_this_process_is_writing_is_left_alone(tmp_path):
    with whole_file(tmp_path / 'file') as part:
        part.write_bytes(b'half')
        assert remove_parts(tmp_path) == []
    # A name of an earlier version, and of a host that is gone.
    (tmp_path / f'old.123{PART_SUFFIX}').write_bytes(b'half')
    (tmp_path / f'old.elsewhere-1{PART_SUFFIX}').write_bytes(b'half')
    assert len(remove_parts(tmp_path)) == 2 and list(tmp_path.iterdir()) == [tmp_path / 'file']
