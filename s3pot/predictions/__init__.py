"""Masks that any method made: what their files hold, in which frame, and how they are measured like our own."""

from s3pot.predictions.full_face import FullFace
from s3pot.predictions.measuring import MissingPolicy, evaluate_predictions
from s3pot.predictions.prediction import Prediction
from s3pot.predictions.table import Predictions, PredictionsError, read_predictions

__all__ = [
    "FullFace",
    "MissingPolicy",
    "Prediction",
    "Predictions",
    "PredictionsError",
    "evaluate_predictions",
    "read_predictions",
]
