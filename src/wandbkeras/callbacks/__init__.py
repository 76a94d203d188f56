"""The callback and its parts; importing this loads Keras, whatever its backend."""

from wandbkeras.callbacks.best import BestMetric
from wandbkeras.callbacks.checkpoint import BestCheckpoint
from wandbkeras.callbacks.eval_callback import WandbEvalCallback
from wandbkeras.callbacks.evaluation import EvaluationTables
from wandbkeras.callbacks.examples import Examples
from wandbkeras.callbacks.flops import FlopsLogger, model_flops
from wandbkeras.callbacks.gradients import GradientHistograms
from wandbkeras.callbacks.graph import GraphLogger, model_graph
from wandbkeras.callbacks.histograms import WeightHistograms
from wandbkeras.callbacks.metrics import MetricsLogger
from wandbkeras.callbacks.metrics_logger import WandbMetricsLogger
from wandbkeras.callbacks.model_checkpoint import WandbModelCheckpoint
from wandbkeras.callbacks.progress import Progress
from wandbkeras.callbacks.step_gradients import StepGradientHistograms
from wandbkeras.callbacks.validation_data import ValidationData
from wandbkeras.callbacks.wandb_callback import WandbCallback

__all__ = [
    "BestCheckpoint",
    "BestMetric",
    "EvaluationTables",
    "Examples",
    "FlopsLogger",
    "GradientHistograms",
    "GraphLogger",
    "MetricsLogger",
    "Progress",
    "StepGradientHistograms",
    "ValidationData",
    "WandbCallback",
    "WandbEvalCallback",
    "WandbMetricsLogger",
    "WandbModelCheckpoint",
    "WeightHistograms",
    "model_flops",
    "model_graph",
]
