"""Pictures of results; drawn by the visualizers of mmdet and mmseg."""

from .prediction_sheet import draw_prediction_sheet

__all__ = ['draw_prediction_sheet']
