"""Images of any kind are read as the config's loader reads them; broken ones are named."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mmpvg.apis.inference.inputs import Item
from mmpvg.apis.inference.reading import ImageFiles, ImageReader, as_rgb
from mmpvg.datasets.checked_loading import BrokenSampleError

PIPELINE = [dict(type='LoadImageFromFile', backend_args=None), dict(type='PackSegInputs')]


@pytest.fixture
def read():
    return ImageReader(PIPELINE)


def test_colors_are_bgr(read, tmp_path, noise):
    pixels = noise(tmp_path / 'a.png')
    assert np.array_equal(read(tmp_path / 'a.png'), pixels[..., ::-1])
    assert np.array_equal(as_rgb(read(tmp_path / 'a.png')), pixels)


def test_other_kinds_become_color_images(read, tmp_path):
    rng = np.random.default_rng(0)
    gray = rng.integers(0, 256, (20, 30), np.uint8)
    Image.fromarray(gray).save(tmp_path / 'gray.png')
    assert np.array_equal(read(tmp_path / 'gray.png'), gray[..., None].repeat(3, 2))
    rgba = rng.integers(0, 256, (20, 30, 4), np.uint8)
    Image.fromarray(rgba).save(tmp_path / 'rgba.png')
    assert np.array_equal(read(tmp_path / 'rgba.png'), rgba[..., 2::-1])
    indexed = Image.fromarray(gray % 3)
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indexed.save(tmp_path / 'palette.png')
    colors = np.array([[30, 20, 10], [60, 50, 40], [90, 80, 70]], np.uint8)
    assert np.array_equal(read(tmp_path / 'palette.png'), colors[gray % 3])


@pytest.mark.parametrize('suffix', ['.png', '.tiff'])
@pytest.mark.parametrize('shape', [(20, 30), (20, 30, 3)])
def test_16_bits_become_8(read, tmp_path, suffix, shape):
    wide = np.random.default_rng(0).integers(0, 65536, shape, np.uint16)
    cv2.imwrite(str(tmp_path / f'a{suffix}'), wide)
    image = read(tmp_path / f'a{suffix}')
    assert image.dtype == np.uint8 and image.shape == (20, 30, 3)
    expected = wide if wide.ndim == 3 else wide[..., None].repeat(3, 2)
    assert np.abs(image - expected / 257.0).max() <= 1


def test_images_are_turned_as_their_exif_data_say(read, tmp_path):
    picture = Image.new('RGB', (40, 20), (255, 0, 0))
    picture.paste((0, 0, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top is on the right: a quarter turn clockwise
    picture.save(tmp_path / 'a.jpg', exif=exif, quality=100, subsampling=0)
    image = read(tmp_path / 'a.jpg')
    assert image.shape == (40, 20, 3)
    assert image[2, 17, 0] > 200 and image[2, 2, 2] > 200, 'blue has gone to the upper right'


def test_settings_of_the_loader_are_kept(tmp_path, noise):
    pixels = noise(tmp_path / 'a.png')
    load = dict(type='mmcv.LoadImageFromFile', to_float32=True, color_type='grayscale')
    image = ImageReader([load])(tmp_path / 'a.png')
    assert image.dtype == np.float32 and image.shape == (48, 64)
    expected = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    assert np.abs(image - expected).max() <= 1
    assert np.array_equal(as_rgb(image), image.astype(np.uint8)[..., None].repeat(3, 2))
    with pytest.raises(ValueError, match='no LoadImageFromFile'):
        ImageReader(PIPELINE[1:])


def test_what_is_not_read_as_it_is_stored(read, tmp_path, noise):
    noise(tmp_path / 'a.png')
    assert read.doubts(tmp_path / 'a.png') == []
    cv2.imwrite(str(tmp_path / 'b.png'), np.arange(4000, dtype=np.uint16).reshape(50, 80))
    assert read(tmp_path / 'b.png').max() == 15
    (doubt,) = read.doubts(tmp_path / 'b.png')
    assert 'b.png: values beyond 8 bits are lost' in doubt and '0 to 15' in doubt
    page = Image.new('RGB', (8, 8))
    page.save(tmp_path / 'c.tif', save_all=True, append_images=[page])
    files = ImageFiles([Item(1, f'{n}.png', n, tmp_path / f'{n}.png') for n in 'ab'], read)
    assert len(list(files)) == 2 and files.doubts == [doubt]
    (doubt,) = read.doubts(tmp_path / 'c.tif')
    assert 'the first of 2 pages' in doubt


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.bmp', '.webp', '.tiff'])
def test_truncated_files_are_named(tmp_path, noise, suffix, backend):
    read = ImageReader([dict(type='LoadImageFromFile', imdecode_backend=backend)])
    path = tmp_path / f'a{suffix}'
    noise(path, (200, 150))
    assert read(path).shape == (150, 200, 3)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BrokenSampleError, match='^is truncated or damaged: |cannot decode it'):
        read(path)


@pytest.mark.parametrize(
    'content, message',
    [(b'', '^is empty$'), (b'<html>404 Not Found</html>', '^cv2 cannot decode it as an image$')],
)
def test_what_is_no_image(read, tmp_path, content, message):
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(BrokenSampleError, match=message):
        read(tmp_path / 'a.jpg')


def test_a_file_that_is_gone(read, tmp_path):
    (tmp_path / 'a.jpg').symlink_to(tmp_path / 'nowhere.jpg')
    with pytest.raises(BrokenSampleError, match='^No such file or directory$'):
        read(tmp_path / 'a.jpg')


def test_values_that_are_no_numbers(tmp_path):
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / 'a.tiff')
    read = ImageReader([dict(type='LoadImageFromFile', color_type='unchanged')])
    with pytest.raises(BrokenSampleError, match='^has pixels that are not finite$'):
        read(tmp_path / 'a.tiff')
