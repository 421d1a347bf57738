"""Images that are found in folders, and names of outputs that do not overwrite one another."""

import pytest

from mmpvg.apis.inference.inputs import check_source, find_images, is_video, output_names


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b'')


def test_a_folder_with_all_folders_in_it(tmp_path):
    touch(tmp_path, 'b.JPG', 'a.png', 'deep/er/c.tiff', 'deep/a.webp', 'notes.txt', 'deep/clip.mp4')
    touch(tmp_path, '.hidden/x.png', '._b.JPG', 'out/pictures/a.jpg')
    found = find_images(tmp_path, left_out=tmp_path / 'out')
    assert [item.file_name for item in found.items] == [
        'a.png',
        'b.JPG',
        'deep/a.webp',
        'deep/er/c.tiff',
    ]
    assert [item.id for item in found.items] == [1, 2, 3, 4]
    assert [item.name for item in found.items] == ['a', 'b', 'deep/a', 'deep/er/c']
    assert found.items[3].path == tmp_path / 'deep/er/c.tiff'
    assert found.other_files == 2


def test_links_are_followed_and_lead_nowhere_twice(tmp_path):
    touch(tmp_path, 'data/x.png', 'far/y.png')
    (tmp_path / 'data/far').symlink_to(tmp_path / 'far')
    (tmp_path / 'data/back').symlink_to(tmp_path / 'data')
    found = find_images(tmp_path / 'data')
    assert [item.file_name for item in found.items] == ['far/y.png', 'x.png']


def test_one_image(tmp_path):
    touch(tmp_path, 'some/x.y.jpeg')
    ((id_, file_name, name, path),) = find_images(tmp_path / 'some/x.y.jpeg').items
    assert (id_, file_name, name, path) == (1, 'x.y.jpeg', 'x.y', tmp_path / 'some/x.y.jpeg')


@pytest.mark.parametrize(
    'file_names, names',
    [
        (['a.jpg', 'b.png'], ['a', 'b']),
        (['a.jpg', 'a.png', 'c/a.png'], ['a.jpg', 'a.png', 'c/a']),
        # What is called like another's long name gets its own.
        (['a.jpg', 'a.jpg.png', 'a.png'], ['a.jpg', 'a.jpg.png', 'a.png']),
        (['v1.0/a.png', 'v1.0/a.jpg', 'v1.png'], ['v1.0/a.png', 'v1.0/a.jpg', 'v1']),
    ],
)
def test_outputs_do_not_overwrite_one_another(file_names, names):
    assert output_names(file_names) == names
    assert len(set(names)) == len(file_names)


def test_what_is_no_input(tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.png does not exist; give an image'):
        check_source(tmp_path / 'nowhere.png')
    touch(tmp_path, 'table.csv', 'clip.MOV')
    with pytest.raises(ValueError, match=r'table.csv is neither a folder nor an image \(.bmp'):
        check_source(tmp_path / 'table.csv')
    assert is_video(check_source(tmp_path / 'clip.MOV'))
    assert not is_video(check_source(tmp_path))
    with pytest.raises(ValueError, match='holds no image, only 2 other files; images end in .bmp'):
        find_images(tmp_path)
