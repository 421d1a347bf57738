"""Masks of annotations are checked apart from one another."""

from mmpvg.datasets.checks.coco_table import read_table
from mmpvg.datasets.checks.masks import check_masks


def test_a_broken_mask_leaves_its_neighbors_alone():
    """Outlines before the broken one of an annotation are not those of the annotation before."""
    square = [0, 0, 2, 0, 2, 2, 0, 2]
    masks = [[square], [[50, 50, 90, 50, 90, 90], ['x', 1, 2, 3, 4, 5]], [square]]
    annotations = [
        dict(id=i, image_id=1, category_id=1, bbox=[0, 0, 2, 2], area=4, segmentation=mask)
        for i, mask in enumerate(masks, 1)
    ]
    content = dict(
        images=[dict(id=1, file_name='a.jpg', height=100, width=120)],
        categories=[dict(id=1, name='a')],
        annotations=annotations,
    )
    table, found = read_table(content, 'a.json', 'images')
    assert not found
    (finding,) = check_masks(table, used=True)
    assert finding.problem == 'outline is not of numbers' and 'annotation 2' in finding.detail
