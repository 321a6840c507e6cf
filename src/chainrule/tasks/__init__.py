"""Tasks: data, model, loss, scores and report, as one thing that a user asks for."""

from chainrule.tasks.fitting import evaluate, fit
from chainrule.tasks.job import Job, prepare, resolve, take_weights
from chainrule.tasks.predictor import Prediction, Predictor, load
from chainrule.tasks.run import (
    Run,
    evaluate_run,
    list_runs,
    read_settings,
    resume,
    train,
)
from chainrule.tasks.settings import Settings
from chainrule.tasks.task import TASKS, Classify, Label, Regress, Task, make_task

__all__ = [
    "TASKS",
    "Classify",
    "Job",
    "Label",
    "Prediction",
    "Predictor",
    "Regress",
    "Run",
    "Settings",
    "Task",
    "evaluate",
    "evaluate_run",
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
