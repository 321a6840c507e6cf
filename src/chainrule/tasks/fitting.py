"""The lectures' two functions: train on images and labels, evaluate on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import data
from chainrule.errors import DataError, OptionError
from chainrule.tasks.job import blas_threads, prepare, resolve
from chainrule.tasks.settings import Settings
from chainrule.tasks.trained import TrainedModel
from chainrule.training import Listener

__all__ = ["evaluate", "fit"]

# What they say is said by the arrays, or by the arguments of fit.
_OPTIONS_OF_RUNS = (
    "data", "out", "labels", "size", "channels", "unreadable", "group_by", "test"
)  # fmt: skip


def fit(
    images: Any,
    labels: Any = None,
    *,
    validation: tuple[Any, Any] | data.Dataset | float = 0.1,
    listeners: Sequence[Listener] = (),
    **options: Any,
) -> Any:
    """Train a model on images and labels, and return it with the best weights.

    A ``Predictor``, or a ``Restorer`` where pictures are restored.

    Args:
        images: an array (n, h, w), (n, h, w, c) or (n, features), or a Dataset.
        labels: classes (n,), 0/1 labels (n, k) or numbers; None for a Dataset, and for
            pictures that are to be restored.
        validation: examples that choose the best weights: a pair of arrays, a Dataset,
            or the share of ``images`` to set aside, stratified by class; to restore,
            an array of pictures.
        listeners: functions of training events, such as ``training.ProgressBar()``.
        **options: any option of ``Settings``: epochs, hidden, lr, optimizer, seed ...

    Raises:
        OptionError: for an unknown option.
        DataError: if images and labels do not fit together or hold NaN.

    Example:
        >>> import chainrule as cr
        >>> digits = cr.data.load()
        >>> model = cr.fit(digits.train, hidden=(32,), epochs=5, seed=0)
        >>> cr.evaluate(model, digits.test)["accuracy"] > 0.8
        True

    Source: ``train(images, labels)`` of toronto and stanford.
    """
    for name in _OPTIONS_OF_RUNS:
        if name in options:
            raise OptionError(
                f"fit: {name} is an option of runs",
                got=options[name],
                expected="arrays",
                hint="chainrule.train(Settings(...)) makes a run folder",
            )
    settings = Settings().replace(**options)
    training = _dataset(images, labels, settings.task)
    if isinstance(validation, (int, float)):
        training, held_out = data.split(
            training, float(validation), seed=settings.seed, name="validation"
        )
    elif isinstance(validation, data.Dataset):
        held_out = validation
    elif isinstance(validation, (tuple, list)) and len(validation) == 2:
        held_out = _dataset(*validation, settings.task, training.class_names)
    elif isinstance(validation, np.ndarray) and settings.task == "restore":
        held_out = _dataset(validation, None, settings.task)
    else:
        raise OptionError(
            "fit: validation is no data",
            got=type(validation).__name__,
            expected="a pair of images and labels, a Dataset, or a share such as 0.1",
        )
    splits = data.Splits(training, held_out, held_out)
    settings = resolve(settings, splits)
    with blas_threads(settings):
        job = prepare(settings, splits, listeners=listeners)
        job.trainer.run()
    job.predictor.model.eval()
    return job.predictor


def evaluate(model: TrainedModel, images: Any, labels: Any = None) -> dict[str, Any]:
    """Loss and scores of a model on images and labels that it was not trained on.

    Returns for classification at least ``accuracy``, ``loss`` and ``num_examples``.

    Source: ``evaluate(model, test_images)`` of toronto and stanford.
    """
    names = model.task.names if model.task.name in ("classify", "label") else None
    return model.evaluate(_dataset(images, labels, model.task.name, names))


def _dataset(
    images: Any, labels: Any, task: str, names: Sequence[str] | None = None
) -> data.Dataset:
    """Arrays as a data set; with ``names``, labels mean what they meant in training."""
    if isinstance(images, data.Dataset):
        return images
    if labels is None and task == "restore":
        return data.arrays(images, images, task=task)
    if labels is None:
        raise DataError(
            "images without labels",
            got=type(images).__name__,
            expected="images and labels, or a Dataset alone",
            hint="cr.data.load('photos/').train is one",
        )
    return data.arrays(images, labels, task=task, class_names=names)
