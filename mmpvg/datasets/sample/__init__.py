"""Small data sets that need no download, for the quickstart and the tests."""

from .dataset import SampleSummary, make_sample_dataset
from .digits import DIGIT_CLASSES, make_digits_dataset
from .preview import draw_preview
from .render import SAMPLE_PHOTOS, Scene
from .shapes import SAMPLE_CLASSES, SAMPLE_PALETTE, SAMPLE_SEG_CLASSES, SAMPLE_SEG_PALETTE
from .split import SAMPLE_SPLITS, sample_scene

__all__ = [
    'DIGIT_CLASSES',
    'SAMPLE_CLASSES',
    'SAMPLE_PALETTE',
    'SAMPLE_PHOTOS',
    'SAMPLE_SEG_CLASSES',
    'SAMPLE_SEG_PALETTE',
    'SAMPLE_SPLITS',
    'SampleSummary',
    'Scene',
    'draw_preview',
    'make_digits_dataset',
    'make_sample_dataset',
    'sample_scene',
]
