"""Keras callbacks that record into the active run; importing this loads Keras."""

from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.checkpoint import BestCheckpoint
from wandbkeras.callbacks.metrics import MetricsLogger
from wandbkeras.callbacks.progress import Progress
from wandbkeras.callbacks.wandb_callback import WandbCallback

__all__ = ["BestCheckpoint", "BestMetric", "MetricsLogger", "Progress", "WandbCallback"]
