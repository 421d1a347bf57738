"""Groups images into batches without padding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from .inputs import Item

# Batches whose images may wait for others of their size.
_WAITING = 4


def batches_of_one_size(
    images: Iterable[tuple[Item, np.ndarray]], batch_size: int
) -> Iterator[list[tuple[Item, np.ndarray]]]:
    """Group images of one size, so that none is padded and predictions do not depend on the batch.

    Images wait for others of their size. When four batches of them wait, the largest group is given
    as it is. Images of one size stay in order.

    Args:
        images: In any order.
        batch_size: Largest number of images in a batch.
    """
    waiting = defaultdict(list)
    for item, image in images:
        group = waiting[image.shape]
        group.append((item, image))
        if len(group) == batch_size:
            yield waiting.pop(image.shape)
        elif sum(map(len, waiting.values())) >= _WAITING * batch_size:
            yield waiting.pop(max(waiting, key=lambda size: len(waiting[size])))
    yield from waiting.values()
