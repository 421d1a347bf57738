"""Videos are read frame by frame, and written at their speed."""

import cv2
import numpy as np
import pytest

from mmpvg.apis.inference.video import VideoFile, VideoFrames
from mmpvg.datasets.checked_loading import BrokenSampleError


def gray(number, size=(64, 48)):
    """A frame of its own brightness, which compression keeps."""
    return np.full((size[1], size[0], 3), 20 + 20 * (number % 10), np.uint8)


def write(path, number=10, fps=12.5):
    code = cv2.VideoWriter_fourcc(*('MJPG' if path.suffix == '.avi' else 'mp4v'))
    writer = cv2.VideoWriter(str(path), code, fps, (64, 48))
    for index in range(number):
        writer.write(gray(index))
    writer.release()
    return path


def numbers(frames):
    return [round((float(frame.mean()) - 20) / 20) for frame in frames]


@pytest.mark.parametrize('suffix', ['.avi', '.mp4'])
@pytest.mark.parametrize('every, expected', [(1, list(range(10))), (4, [0, 4, 8])])
def test_each_frame_has_its_number(tmp_path, suffix, every, expected):
    video = VideoFrames(write(tmp_path / f'a{suffix}'), every)
    assert len(video) == len(expected)
    assert video.fps == pytest.approx(12.5 / every)
    items, frames = zip(*video)
    assert [item.id for item in items] == expected
    assert numbers(frames) == expected
    assert items[-1].file_name == f'a{suffix}#{expected[-1]}'
    assert items[-1].name == f'{expected[-1]:06d}'


def test_a_truncated_video_gives_what_it_has(tmp_path):
    path = write(tmp_path / 'a.avi', 40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    *good, (end, problem) = VideoFrames(path)
    assert 5 < len(good) < 30 and numbers(frame for _, frame in good[:5]) == [0, 1, 2, 3, 4]
    assert isinstance(problem, BrokenSampleError) and end.file_name == 'a.avi'
    assert str(problem).startswith(f'ends after {len(good)} of 40 frames')


@pytest.mark.parametrize('too_many, complains', [(2, False), (3, True)])
def test_a_length_that_is_estimated_may_be_off_by_two(tmp_path, too_many, complains):
    video = VideoFrames(write(tmp_path / 'a.avi'))
    video._stated += too_many
    assert len(list(video)) == 10 + complains


@pytest.mark.parametrize('content', [b'', b'no video', None])
def test_what_is_no_video(tmp_path, content):
    path = write(tmp_path / 'a.mp4')
    if content is None:
        content = path.read_bytes()[:1000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'{len(content)} bytes. cannot be opened as a video'):
        VideoFrames(path)


@pytest.mark.parametrize('size', [(64, 48), (63, 47), (1, 1)])
def test_a_written_video_is_read_again(tmp_path, size):
    file = VideoFile(tmp_path / 'deep/a.mp4', 12.5 / 3)
    for number in range(6):
        file.add(None, gray(number, size))
    file.close()
    capture = cv2.VideoCapture(str(tmp_path / 'deep/a.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5 / 3, rel=1e-3)
    frames = [capture.read()[1] for _ in range(6)]
    assert not capture.read()[0]
    # Of even size.
    assert frames[0].shape == (size[1] + size[1] % 2, size[0] + size[0] % 2, 3)
    assert numbers(frames) == list(range(6))


@pytest.mark.parametrize(
    'fps, expected',
    [
        (30000 / 1001, 29.97),
        (120000 / 1001, 119.88),
        (200 / 3, 66.67),
        (1000 / 3, 333.33),
        (90000, 65535),
        (0.0001, 0.01),
    ],
)
def test_rates_that_mpeg4_cannot_hold_are_rounded(tmp_path, fps, expected):
    file = VideoFile(tmp_path / 'a.mp4', fps)
    assert file.fps == pytest.approx(expected, abs=0.001)
    for number in range(3):
        file.add(None, gray(number))
    file.close()
    capture = cv2.VideoCapture(str(tmp_path / 'a.mp4'))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(expected, rel=1e-4)


def test_colors_are_not_swapped(tmp_path):
    file = VideoFile(tmp_path / 'a.mp4', 10)
    file.add(None, np.full((48, 64, 3), (200, 40, 40), np.uint8))
    file.close()
    _, frame = cv2.VideoCapture(str(tmp_path / 'a.mp4')).read()
    assert frame[20, 20, 2] > 150 > frame[20, 20, 0]


def test_a_video_that_cannot_be_written(tmp_path):
    (tmp_path / 'a.mp4').mkdir()
    with pytest.raises(OSError, match=r'cannot write .*a.mp4 \(64x48 pixels, 10 frames a second\)'):
        VideoFile(tmp_path / 'a.mp4', 10).add(None, gray(0))
