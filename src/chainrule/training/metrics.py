"""Numbers that say how good predictions are.

Source of the definitions: scikit-learn's user guide, section 3.4; the tests compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.errors import ShapeError

__all__ = [
    "accuracy",
    "average_precision",
    "class_scores",
    "confusion_matrix",
    "f1_scores",
    "intersection_over_union",
    "mean_absolute_error",
    "r2_score",
    "top_k_accuracy",
]

Array = np.ndarray[Any, Any]


def _check_lengths(name: str, first: Array, second: Array) -> None:
    if len(first) != len(second):
        raise ShapeError(
            f"{name}: lengths differ",
            got=f"{len(first)} predictions, {len(second)} targets",
            expected="one prediction for each target",
        )


def accuracy(scores: Array, labels: Array) -> float:
    """The share of examples whose highest score is their label's.

    Shapes: scores (n, k), labels (n,).
    """
    return top_k_accuracy(scores, labels, 1)


def top_k_accuracy(scores: Array, labels: Array, k: int) -> float:
    """The share of examples whose label is among the k highest scores.

    Among equal scores the lower class counts as the higher one, as argmax does.
    """
    _check_lengths("accuracy", scores, labels)
    rows = np.arange(len(labels))
    own = scores[rows, labels][:, None]
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    rank = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return float(np.mean(rank < k))


def confusion_matrix(predicted: Array, labels: Array, num_classes: int) -> Array:
    """How often each true class (row) was predicted as each class (column)."""
    _check_lengths("confusion_matrix", predicted, labels)
    pairs = labels.astype(np.int64) * num_classes + predicted
    counts = np.bincount(pairs, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def class_scores(confusion: Array) -> dict[str, Array]:
    """Precision, recall, F1 and number of examples by class; 0 where undefined."""
    hits = np.diag(confusion).astype(np.float64)
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = np.divide(hits, predicted, out=np.zeros_like(hits), where=predicted > 0)
    recall = np.divide(hits, actual, out=np.zeros_like(hits), where=actual > 0)
    return {
        "precision": precision,
        "recall": recall,
        "f1": _harmonic_mean(precision, recall),
        "num_examples": actual,
    }


def intersection_over_union(confusion: Array) -> Array:
    """IoU of each class: hits / (hits + misses + false alarms); NaN for absent ones.

    Absent is a class that is neither true nor predicted anywhere: nothing can be said
    of it, and means leave it out.

    Example:
        >>> intersection_over_union(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
        array([0.75      , 0.66666667,        nan])

    Source: Everingham et al., "The Pascal visual object classes challenge", 2010,
    section 4.3.
    """
    hits = np.diag(confusion).astype(np.float64)
    either = confusion.sum(axis=0) + confusion.sum(axis=1) - hits
    nothing = np.full_like(hits, np.nan)
    return np.divide(hits, either, out=nothing, where=either > 0)


def _harmonic_mean(precision: Array, recall: Array) -> Array:
    total = precision + recall
    product = 2 * precision * recall
    return np.divide(product, total, out=np.zeros_like(total), where=total > 0)


def f1_scores(
    scores: Array, targets: Array, threshold: float = 0.0
) -> dict[str, float]:
    """Multi-label F1: over all decisions (micro) and the mean over labels (macro).

    Shapes: scores and 0/1 targets (n, k); a label is given where score > threshold.
    """
    _check_lengths("f1_scores", scores, targets)
    given, actual = scores > threshold, targets > 0.5
    hits = (given & actual).sum(axis=0).astype(np.float64)
    sizes = (given.sum(axis=0) + actual.sum(axis=0)).astype(np.float64)
    each = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=sizes > 0)
    micro = float(2 * hits.sum() / sizes.sum()) if sizes.sum() else 0.0
    return {"f1_micro": micro, "f1_macro": float(each.mean())}


def average_precision(scores: Array, targets: Array) -> float:
    """The mean over labels of Σ (recall step · precision) down the ranking.

    Labels that no example carries are left out.
    """
    _check_lengths("average_precision", scores, targets)
    values = []
    for column in range(scores.shape[1]):
        actual = targets[:, column] > 0.5
        if not actual.any():
            continue
        order = np.argsort(-scores[:, column], kind="stable")
        ranked, hits = scores[order, column], np.cumsum(actual[order])
        # Equal scores are one step of the ranking: only its last place counts.
        last = np.append(ranked[1:] != ranked[:-1], True)
        precision = (hits / np.arange(1, len(hits) + 1))[last]
        recall = (hits / hits[-1])[last]
        values.append(float(np.sum(np.diff(recall, prepend=0.0) * precision)))
    return float(np.mean(values)) if values else 0.0


def mean_absolute_error(predicted: Array, targets: Array) -> float:
    """Σ |prediction - target| / n, in the targets' unit."""
    _check_lengths("mean_absolute_error", predicted, targets)
    return float(np.mean(np.abs(predicted - targets)))


def r2_score(predicted: Array, targets: Array) -> float:
    """1 - Σ(target - prediction)² / Σ(target - mean)², averaged over outputs.

    1 is perfect, 0 is as good as always saying the mean; a constant target scores 1 if
    it is hit and 0 if not.
    """
    _check_lengths("r2_score", predicted, targets)
    predicted = predicted.reshape(len(predicted), -1).astype(np.float64)
    targets = targets.reshape(len(targets), -1).astype(np.float64)
    residual = ((targets - predicted) ** 2).sum(axis=0)
    total = ((targets - targets.mean(axis=0)) ** 2).sum(axis=0)
    constant = (residual == 0).astype(np.float64)
    ratio = np.divide(residual, total, out=1 - constant, where=total > 0)
    return float(np.mean(1 - ratio))
