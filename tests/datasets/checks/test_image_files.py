"""What a loader gets wrong is found in the header, and nothing in what it reads right."""

import struct

import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile
from PIL import Image

from mmpvg.datasets.checks.image_files import check_image_header, image_loader, open_image

HEIGHT, WIDTH = 48, 64
RAMP = np.tile(np.linspace(0, 1, WIDTH), (HEIGHT, 1))
GRAY = (RAMP * 255).astype(np.uint8)
RGB = np.stack([GRAY, GRAY[:, ::-1], GRAY // 2], axis=2)
PILLOW = dict(imdecode_backend='pillow')
UNCHANGED = dict(color_type='unchanged')


def save(path, pixels, mode=None, **options):
    Image.fromarray(pixels, mode).save(path, **options)
    return str(path)


def problems(path, expected=(WIDTH, HEIGHT), loader=None):
    return [f.problem for f in check_image_header(str(path), expected, loader)]


def save_bands(path, bands, values=GRAY):
    """A TIFF of any number of bands, none of which is called alpha."""
    pixels = np.repeat(values[..., None], bands, 2)
    bits = 8 * pixels.itemsize
    shorts = struct.pack(f'<{bands}H', *[bits] * bands)
    extra = struct.pack(f'<{bands}H', *[0] * bands)
    tags = [
        (256, 4, 1, WIDTH),
        (257, 4, 1, HEIGHT),
        (258, 3, bands, 8 + 2 + 11 * 12 + 4),
        (259, 3, 1, 1),
        (262, 3, 1, 2 if bands > 2 else 1),
        (273, 4, 1, 400),
        (277, 3, 1, bands),
        (278, 4, 1, HEIGHT),
        (279, 4, 1, pixels.nbytes),
        (284, 3, 1, 1),
        (338, 3, max(bands - 3, 1), 300 if bands > 5 else 0),
    ]
    if bands <= 2:
        # Two shorts stand in the entry itself.
        tags[2] = (258, 3, bands, bits | bits << 16)
    content = b'II*\0' + struct.pack('<IH', 8, len(tags))
    content += b''.join(struct.pack('<HHII', *tag) for tag in tags) + bytes(4) + shorts
    content = content.ljust(300, b'\0') + extra
    path.write_bytes(content.ljust(400, b'\0') + pixels.tobytes())
    return str(path)


def test_what_is_read_right_has_no_findings(tmp_path):
    files = [
        save(tmp_path / 'a.jpg', RGB),
        save(tmp_path / 'gray.jpg', GRAY),
        save(tmp_path / 'a.png', RGB),
        save(tmp_path / 'rgba.png', np.dstack([RGB, GRAY])),
        save(tmp_path / 'opaque.tif', np.dstack([RGB, np.full_like(GRAY, 255)])),
        save(tmp_path / 'a.webp', RGB),
        save(tmp_path / 'a.bmp', RGB),
        save(tmp_path / 'a.tif', RGB),
        save(tmp_path / 'lzw.tif', RGB, compression='tiff_lzw'),
        save(tmp_path / 'bits.png', GRAY > 99),
        save(tmp_path / 'bits.tif', GRAY > 99),
        save(tmp_path / 'full.png', (RAMP * 65535).astype(np.uint16)),
        save(tmp_path / 'full.tif', (RAMP * 65535).astype(np.uint16)),
    ]
    for name, mode in (('cmyk.jpg', 'CMYK'), ('cmyk.tif', 'CMYK'), ('palette.png', 'P')):
        Image.fromarray(RGB).convert(mode).save(tmp_path / name, transparency=3)
        files.append(str(tmp_path / name))
    for path in files:
        assert check_image_header(path, (WIDTH, HEIGHT)) == [], path
        # Which is so, but for the way of a lossy format and of CMYK.
        loaded = LoadImageFromFile()(dict(img_path=path))['img']
        assert loaded.dtype == np.uint8 and loaded.shape == (HEIGHT, WIDTH, 3)
        assert loaded.min() < 5 and loaded.max() > 250


@pytest.mark.parametrize(
    'values, loader, problem',
    [
        ((RAMP * 4095).astype(np.uint16), None, 'values beyond 8 bits are lost'),
        ((RAMP * 4000 - 1000).astype(np.int16), None, 'values beyond 8 bits are lost'),
        ((RAMP * 4095).astype(np.uint16), UNCHANGED, None),
        ((RAMP * 65535).astype(np.uint16), PILLOW, 'values beyond 8 bits are lost'),
        (RAMP.astype(np.float32), PILLOW, 'values beyond 8 bits are lost'),
        ((RAMP * 255).astype(np.float32), PILLOW, None),
        (RAMP.astype(np.float32), None, 'image cannot be decoded'),
        (RAMP.astype(np.float64), None, 'image cannot be decoded'),
    ],
)
def test_values_that_8_bits_do_not_hold(tmp_path, values, loader, problem):
    path = str(tmp_path / 'a.tif')
    cv2.imwrite(path, values)
    assert problems(path, loader=loader) == [problem] * (problem is not None)
    # The oracle: how many of 64 gray levels are left after loading.
    if problem != 'image cannot be decoded':
        loaded = LoadImageFromFile(**(loader or {}))(dict(img_path=path))['img']
        assert (len(np.unique(loaded)) < 48) == (problem is not None)


def test_12_bits_of_three_channels(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), RGB.astype(np.uint16) * 16)
    (finding,) = check_image_header(str(tmp_path / 'a.png'))
    assert 'uint16 values 0 to 4080 are read as 0 to 15' in finding.detail
    assert finding.effect == 'unnoticed'


@pytest.mark.parametrize(
    'bands, expected',
    [
        (1, []),
        (2, ['1 of 2 bands are read']),
        (4, ['3 of 4 bands are read, multiplied by the fourth if the file calls it alpha']),
        (5, ['cv2 cannot read it; save it as 8-bit PNG, JPEG or TIFF of one or three bands']),
    ],
)
def test_bands(tmp_path, bands, expected):
    path = save_bands(tmp_path / 'a.tif', bands)
    assert [f.detail for f in check_image_header(path, (WIDTH, HEIGHT))] == expected


def test_a_fourth_band_that_is_called_alpha(tmp_path):
    path = save(tmp_path / 'a.tif', np.dstack([RGB, np.full_like(GRAY, 128)]))
    loaded = LoadImageFromFile()(dict(img_path=path))['img']
    assert np.abs(loaded.astype(int) - RGB[..., ::-1] / 2).max() <= 1, 'colors are halved'
    # The same everywhere, so that it may be opaque.
    assert problems(path) == []
    path = save(tmp_path / 'b.tif', np.dstack([RGB, GRAY]))
    assert problems(path) == ['bands are left out']


@pytest.mark.parametrize('suffix', ['.tif', '.gif', '.png', '.webp'])
def test_pages(tmp_path, suffix):
    pages = [Image.fromarray(RGB[:, ::-1])] * 2
    path = save(tmp_path / f'a{suffix}', RGB, save_all=True, append_images=pages[:1])
    (finding,) = check_image_header(path)
    assert finding.problem == 'several pages' and 'first of 2' in finding.detail


def test_a_smaller_copy_is_no_page(tmp_path):
    small = Image.fromarray(RGB).resize((8, 6))
    path = save(tmp_path / 'a.tif', RGB, save_all=True, append_images=[small])
    assert problems(path) == []
    path = save(tmp_path / 'a.jpg', RGB, format='MPO', save_all=True, append_images=[small])
    assert problems(path) == []


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif'])
@pytest.mark.parametrize('share', [0.0, 0.02, 0.5, 0.99])
def test_truncated(tmp_path, suffix, share):
    path = tmp_path / f'a{suffix}'
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    whole = open(save(path, noise), 'rb').read()
    assert problems(path) == []
    path.write_bytes(whole[: int(len(whole) * share)])
    assert problems(path) == ['image cannot be decoded']
    with pytest.raises(Exception, match='failed to load image|empty|buf'):
        LoadImageFromFile()(dict(img_path=str(path)))


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.bmp', '.tif', '.gif'])
def test_damaged_headers(tmp_path, suffix):
    """Whatever a header holds, there is no error, and nothing is invented."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options = dict(exif=exif) if suffix in ('.jpg', '.png', '.webp', '.tif') else {}
    whole = np.fromfile(save(tmp_path / f'whole{suffix}', RGB, **options), np.uint8)
    path, rng = tmp_path / f'a{suffix}', np.random.default_rng(0)
    for _ in range(25):
        damaged = whole.copy()
        damaged[rng.integers(0, 100, 2)] = rng.integers(0, 256, 2)
        damaged.tofile(path)
        if 'image cannot be decoded' in problems(path):
            with pytest.raises((AssertionError, cv2.error)):
                LoadImageFromFile()(dict(img_path=str(path)))


def test_what_follows_an_image_is_no_damage(tmp_path):
    for name in ('a.jpg', 'a.png'):
        path = tmp_path / name
        save(path, RGB)
        path.write_bytes(path.read_bytes() + bytes(9000))
        assert problems(path) == []


def test_files_that_are_none(tmp_path):
    assert problems(tmp_path / 'gone.jpg') == ['image missing']
    (tmp_path / 'text.jpg').write_text('<html>')
    assert problems(tmp_path / 'text.jpg') == ['image cannot be decoded']
    assert check_image_header('https://example.org/a.jpg', (1, 1)) == []


# Whether the image is turned, by suffix and loader, seen on pixels below.
LOADERS = [{}, PILLOW, UNCHANGED, dict(color_type='color_ignore_orientation')]


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_exif_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f'a{suffix}', RGB, exif=exif)
    for loader in LOADERS:
        loaded = LoadImageFromFile(**loader)(dict(img_path=path))['img']
        stored = loaded.shape[:2] == (HEIGHT, WIDTH)
        size, other = ((WIDTH, HEIGHT), (HEIGHT, WIDTH))[:: 1 if stored else -1]
        if orientation > 4:
            # The size shows it.
            assert problems(path, size, loader) == []
            assert problems(path, other, loader) == ['EXIF orientation unlike the annotations']
        else:
            chosen = loader.get('color_type') and suffix != '.tif'
            doubt = orientation > 1 and not chosen
            unclear = ['EXIF orientation that no size confirms'] * doubt
            assert problems(path, size, loader) == unclear
            assert problems(path, other, loader) == ['size unlike its annotations']
        assert problems(path, None, loader) == [], 'of a class label it changes nothing'


def test_the_fix_of_a_turned_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / 'a.jpg', RGB, exif=exif)
    (finding,) = check_image_header(path, (WIDTH, HEIGHT))
    assert '48x64 pixels, but the annotations say 64x48' in finding.detail
    assert "color_type='color_ignore_orientation'" in finding.detail
    assert finding.effect == 'replaced'
    loader = dict(color_type='color_ignore_orientation')
    assert check_image_header(path, (WIDTH, HEIGHT), loader) == []


def test_a_square_image_that_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / 'a.jpg', RGB[:, :HEIGHT], exif=exif)
    assert problems(path, (HEIGHT, HEIGHT)) == ['EXIF orientation that no size confirms']


def test_an_image_above_pils_limit(tmp_path, monkeypatch):
    path = save(tmp_path / 'a.png', GRAY)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    with open_image(path) as image:
        assert image.size == (WIDTH, HEIGHT) and np.array_equal(np.asarray(image), GRAY)
    assert problems(path) == []
    assert problems(path, loader=PILLOW) == ['image cannot be decoded']


def test_the_loader_of_a_pipeline():
    load = dict(type='mmcv.LoadImageFromFile', color_type='unchanged', backend_args=None)
    assert image_loader([dict(type='A'), load]) == UNCHANGED
    with pytest.raises(ValueError, match='no LoadImageFromFile'):
        image_loader([dict(type='A')])


def test_a_jpeg_whose_second_half_is_zeros(tmp_path):
    path = tmp_path / 'a.jpg'
    pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    assert check_image_header(str(path)) == []
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))
    # Which no decoder refuses.
    assert cv2.imread(str(path)) is not None
    (finding,) = check_image_header(str(path))
    assert (finding.problem, finding.effect) == ('end of the image is missing', 'unnoticed')
