"""What a report shows of rows of numbers: confusions and mistakes, scores, scatters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data
from chainrule.tasks.report import Mistake
from chainrule.training import metrics

if TYPE_CHECKING:
    from chainrule.tasks.rows import RowTask

__all__ = ["row_fields", "worst_mistakes"]

Array = np.ndarray[Any, Any]


def row_fields(task: RowTask, outputs: Array, test: data.Dataset) -> dict[str, Any]:
    """Fields of ``Report`` for a test set and the model's outputs for it."""
    if task.name == "classify":
        predicted = outputs.argmax(axis=1)
        probabilities = task.probabilities(outputs)
        return {
            "confusion": metrics.confusion_matrix(
                predicted, test.targets, task.num_outputs
            ),
            "mistakes": worst_mistakes(probabilities, test, task.names),
        }
    if task.name == "label":
        return {"label_scores": _label_scores(outputs, test.targets)}
    return {"targets": test.targets, "predictions": outputs}


def worst_mistakes(
    probabilities: Array, dataset: data.Dataset, names: tuple[str, ...], count: int = 24
) -> list[Mistake]:
    """The wrongly classified examples whose own class got the least probability."""
    labels = dataset.targets
    own = probabilities[np.arange(len(labels)), labels]
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(own[wrong], kind="stable")][:count]
    is_picture = len(dataset.example_shape) == 3
    pictures = dataset.read(worst) if is_picture and len(worst) else None
    return [
        Mistake(
            true=names[labels[i]],
            predicted=names[predicted[i]],
            probability=float(probabilities[i, predicted[i]]),
            probability_of_true=float(own[i]),
            picture=None if pictures is None else pictures[row],
            file=dataset.sources[i] if dataset.sources is not None else None,
        )
        for row, i in enumerate(worst.tolist())
    ]


def _label_scores(outputs: Array, targets: Array) -> dict[str, Array]:
    """F1 and average precision of every label."""
    columns = range(targets.shape[1])
    pairs = [(outputs[:, i : i + 1], targets[:, i : i + 1]) for i in columns]
    return {
        "f1": np.array([metrics.f1_scores(o, t)["f1_macro"] for o, t in pairs]),
        "average_precision": np.array(
            [metrics.average_precision(o, t) for o, t in pairs]
        ),
        "num_examples": (targets > 0.5).sum(axis=0),
    }
