"""Prediction on images, folders and videos with mmdet's and mmseg's inferencers."""

from .inferencers import build_inferencer
from .predictor import Predictor
from .report import PredictionReport
from .run import predict_to_folder

__all__ = ['PredictionReport', 'Predictor', 'build_inferencer', 'predict_to_folder']
