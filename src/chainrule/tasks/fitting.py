"""The lectures' two functions: train on images and labels, evaluate on others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule import data
from chainrule.errors import OptionError
from chainrule.tasks.job import blas_threads, prepare, resolve
from chainrule.tasks.predictor import Predictor
from chainrule.tasks.settings import Settings
from chainrule.training import Listener

__all__ = ["evaluate", "fit"]


def fit(
    images: Any,
    labels: Any = None,
    *,
    validation: tuple[Any, Any] | data.Dataset | float = 0.1,
    listeners: Sequence[Listener] = (),
    **options: Any,
) -> Predictor:
    """Train a model on images and labels, and return it with the best weights.

    Args:
        images: an array (n, h, w), (n, h, w, c) or (n, features), or a Dataset.
        labels: classes (n,), 0/1 labels (n, k) or numbers; None for a Dataset.
        validation: examples that choose the best weights: a pair of arrays, a Dataset,
            or the share of ``images`` to set aside, stratified by class.
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
    for name in ("data", "out", "labels"):
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
    else:
        held_out = _dataset(*validation, settings.task)
    splits = data.Splits(training, held_out, held_out)
    settings = resolve(settings, splits)
    with blas_threads(settings):
        job = prepare(settings, splits, listeners=listeners)
        job.trainer.run()
    job.predictor.model.eval()
    return job.predictor


def evaluate(model: Predictor, images: Any, labels: Any = None) -> dict[str, Any]:
    """Loss and scores of a model on images and labels that it was not trained on.

    Returns for classification at least ``accuracy``, ``loss`` and ``num_examples``.

    Source: ``evaluate(model, test_images)`` of toronto and stanford.
    """
    return model.evaluate(_dataset(images, labels, model.task.name))


def _dataset(images: Any, labels: Any, task: str) -> data.Dataset:
    if isinstance(images, data.Dataset):
        return images
    return data.arrays(images, labels, task=task)
