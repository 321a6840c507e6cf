"""Tasks: data, model, loss, scores and report, as one thing that a user asks for."""

from chainrule.tasks.explained import RunExplanation, explain_run
from chainrule.tasks.fitting import evaluate, fit
from chainrule.tasks.gradients import RunCheck, check_run_gradients
from chainrule.tasks.job import Job, prepare, resolve, take_weights
from chainrule.tasks.named import TASKS, load, make_task
from chainrule.tasks.predictor import Prediction, Predictor
from chainrule.tasks.restore import Restore
from chainrule.tasks.restorer import Restorer
from chainrule.tasks.rows import Classify, Label, Regress
from chainrule.tasks.run import (
    Run,
    evaluate_run,
    list_runs,
    read_settings,
    resume,
    train,
)
from chainrule.tasks.segment import Segment
from chainrule.tasks.segmenter import Segmenter
from chainrule.tasks.settings import Settings
from chainrule.tasks.task import Task
from chainrule.tasks.trained import TrainedModel

__all__ = [
    "TASKS",
    "Classify",
    "Job",
    "Label",
    "Prediction",
    "Predictor",
    "Regress",
    "Restore",
    "Restorer",
    "Run",
    "RunCheck",
    "RunExplanation",
    "Segment",
    "Segmenter",
    "Settings",
    "Task",
    "TrainedModel",
    "check_run_gradients",
    "evaluate",
    "evaluate_run",
    "explain_run",
    "fit",
    "list_runs",
    "load",
    "make_task",
    "prepare",
    "read_settings",
    "resolve",
    "resume",
    "take_weights",
    "train",
]
