"""The tasks by name, and models from their files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from chainrule.errors import CheckpointError, OptionError
from chainrule.tasks.architecture import Architecture
from chainrule.tasks.restore import Restore
from chainrule.tasks.rows import Classify, Label, Regress
from chainrule.tasks.segment import Segment
from chainrule.tasks.task import Task
from chainrule.tasks.trained import MODEL_FILE, TrainedModel
from chainrule.training.checkpoint import read_tensors

__all__ = ["TASKS", "load", "make_task", "model_file", "task_class"]

TASKS: dict[str, type[Task]] = {
    t.name: t for t in (Classify, Label, Regress, Restore, Segment)
}


def task_class(name: str) -> type[Task]:
    """The task of a name; raises OptionError for an unknown one."""
    if name not in TASKS:
        raise OptionError.unknown("task", name, TASKS)
    return TASKS[name]


def make_task(
    name: str, names: tuple[str, ...], loss_name: str | None, **details: Any
) -> Task:
    """The task of a name, its loss checked.

    Raises OptionError for an unknown task, or a loss that does not fit it.
    """
    cls = task_class(name)
    return cls(names, checked_loss(cls, loss_name), **details)


def checked_loss(cls: type[Task], loss_name: str | None) -> str:
    """The name of a task's loss, its first where none is named.

    Raises OptionError for a loss that does not fit the task.
    """
    loss_name = loss_name or cls.losses[0]
    if loss_name not in cls.losses:
        raise OptionError.unknown(f"loss for task {cls.name}", loss_name, cls.losses)
    return loss_name


def model_file(path: str | os.PathLike[str]) -> Path:
    """The model file itself, whether it is named or its run folder."""
    return Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)


def load(path: str | os.PathLike[str]) -> Any:
    """The model of a run folder or of a model file.

    A ``Predictor``, or a ``Restorer`` where pictures are restored.

    Raises:
        FileError: if there is none.
        CheckpointError: if it is damaged, or written by a newer chainrule.
    """
    file = model_file(path)
    tensors, metadata = read_tensors(file, kind="model")
    try:
        architecture = Architecture.from_json(metadata["architecture"])
        name = metadata["task"]
        details = {
            key: _as_tuple(json.loads(metadata[key]))
            for key in task_class(name).detail_names()
            if key in metadata
        }
        names = tuple(json.loads(metadata["names"]))
        task = make_task(name, names, metadata["loss"], **details)
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{file} lacks what a model file says of itself",
            got=error,
            expected="architecture, task, loss and names in its metadata",
        ) from None
    model = architecture.build()
    model.load_state(tensors)
    trained: TrainedModel = task.predictor(model, architecture)
    return trained


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
