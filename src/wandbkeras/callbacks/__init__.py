"""Keras callbacks that record into the active run; importing this loads Keras."""

from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.checkpoint import BestCheckpoint
from wandbkeras.callbacks.flops import FlopsLogger, model_flops
from wandbkeras.callbacks.graph import GraphLogger, model_graph
from wandbkeras.callbacks.metrics import MetricsLogger
from wandbkeras.callbacks.metrics_logger import WandbMetricsLogger
from wandbkeras.callbacks.model_checkpoint import WandbModelCheckpoint
from wandbkeras.callbacks.progress import Progress
from wandbkeras.callbacks.wandb_callback import WandbCallback

__all__ = [
    "BestCheckpoint",
    "BestMetric",
    "FlopsLogger",
    "GraphLogger",
    "MetricsLogger",
    "Progress",
    "WandbCallback",
    "WandbMetricsLogger",
    "WandbModelCheckpoint",
    "model_flops",
    "model_graph",
]
