"""Pictures of results."""

from .prediction_sheet import draw_prediction_sheet
from .study_plot import draw_study

__all__ = ['draw_prediction_sheet', 'draw_study']
