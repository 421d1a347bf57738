"""Batches hold images of one size, and few images wait."""

import numpy as np

from mmpvg.apis.inference.run import batches_of_one_size


def images(*widths):
    for index, width in enumerate(widths):
        yield index, np.empty((2, width, 3), np.uint8)


def batches(widths, size):
    return [[item for item, _ in batch] for batch in batches_of_one_size(images(*widths), size)]


def test_images_of_one_size_are_put_together():
    assert batches([5, 7, 5, 7, 7, 5, 7], 2) == [[0, 2], [1, 3], [4, 6], [5]]
    assert batches([5] * 5, 3) == [[0, 1, 2], [3, 4]]
    assert batches([5, 7, 5], 1) == [[0], [1], [2]]
    assert batches([], 4) == []


def test_as_many_images_wait_as_four_batches_have():
    read, given, most = 0, 0, 0

    def counted(widths):
        nonlocal read
        for pair in images(*widths):
            read += 1
            yield pair

    for batch in batches_of_one_size(counted(range(1, 101)), 3):
        most = max(most, read - given)
        given += len(batch)
    assert given == 100
    assert most == 12
