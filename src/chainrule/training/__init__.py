"""The training loop and what belongs to it: events, scores, checkpoints, the log."""

from chainrule.training import metrics
from chainrule.training.checkpoint import Checkpoint, read_tensors, write_tensors
from chainrule.training.events import (
    CheckpointSaved,
    EpochFinished,
    Event,
    Listener,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
)
from chainrule.training.finiteness import gradient_norm, locate
from chainrule.training.forecast import Forecast, forecast
from chainrule.training.log import MetricsLog, read_rows
from chainrule.training.loop import Trainer
from chainrule.training.progress import ProgressBar
from chainrule.training.recipe import Monitor, Recipe
from chainrule.training.update import Outcome, Part, Update

__all__ = [
    "Checkpoint",
    "CheckpointSaved",
    "EpochFinished",
    "Event",
    "Forecast",
    "Listener",
    "MetricsLog",
    "Monitor",
    "Outcome",
    "Part",
    "ProgressBar",
    "Recipe",
    "StepFinished",
    "Trainer",
    "TrainingFinished",
    "TrainingStarted",
    "Update",
    "forecast",
    "gradient_norm",
    "locate",
    "metrics",
    "read_rows",
    "read_tensors",
    "write_tensors",
]
