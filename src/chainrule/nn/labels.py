"""What losses accept: scores, labels and targets that belong together.

Every check names the loss it was made for.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import ops
from chainrule.core.graph import Tensor, as_tensor, known_values
from chainrule.core.spec import is_float
from chainrule.errors import DtypeError, IndexingError, OptionError, ShapeError

_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}
_ROW_SUM_TOLERANCE = 1e-3  # of probabilities that were mixed or rounded


def _check_not_empty(name: str, t: Tensor) -> None:
    if not t.ndim or not t.size:
        raise ShapeError(
            f"{name}: no examples", got=t.spec, expected="a first axis of 1 or more"
        )


def check_scores(name: str, scores: Any) -> Tensor:
    """Scores as a float tensor (n, k)."""
    s = as_tensor(scores)
    if s.ndim != 2:
        raise ShapeError(
            f"{name}: one row of scores for each example",
            got=s.spec,
            expected="(n, k)",
            hint="Flatten() turns images into rows",
        )
    _check_not_empty(name, s)
    if not is_float(s.dtype):
        raise DtypeError(
            f"{name}: scores are not floats",
            got=s.spec,
            expected="float32 or float64",
            hint="are the labels given first? it is (scores, labels)",
        )
    return s


def check_labels(name: str, labels: Tensor, scores: Tensor) -> Tensor:
    """Class labels that belong to the scores: integers (n) from 0 to k - 1."""
    n, num_classes = scores.shape
    if labels.dtype.kind not in "iu":
        raise DtypeError(
            f"{name}: labels are not classes",
            got=labels.spec,
            expected=f"int64[{n}]",
            hint="labels.astype('int64')",
        )
    if labels.shape != (n,):
        raise ShapeError(
            f"{name}: one label for each row of scores",
            got=f"scores {scores.spec}, labels {labels.spec}",
            expected=f"labels of shape ({n},)",
        )
    array = known_values(labels)
    if array is None:
        # Without values yet: a label below 0 must not count from the end, as an index.
        return labels.astype(np.uint32)
    # Read without a sign, negative labels are huge: one pass finds both kinds.
    if np.maximum.reduce(array.view(_UNSIGNED[array.itemsize])) >= num_classes:
        raise IndexingError(
            f"{name}: a label is out of range",
            got=f"labels from {array.min()} to {array.max()}",
            expected=f"0 to {num_classes - 1}, as there are {num_classes} scores",
            hint="count classes from 0, or give the network more outputs",
        )
    return labels


def class_targets(name: str, labels: Tensor, scores: Tensor) -> Tensor:
    """Labels of any kind as rows of probabilities in the scores' dtype."""
    if labels.ndim == 1:
        classes = check_labels(name, labels, scores)
        return ops.one_hot(classes, scores.shape[1], scores.dtype)
    if labels.shape != scores.shape:
        raise ShapeError(
            f"{name}: labels do not belong to the scores",
            got=f"scores {scores.spec}, labels {labels.spec}",
            expected=f"labels of shape ({scores.shape[0]},), or {scores.shape}",
        )
    targets = labels.astype(scores.dtype)
    values = known_values(targets)
    if values is None:
        return targets
    sums = values.sum(axis=1)
    if not (values.min() >= 0 and abs(sums - 1).max() <= _ROW_SUM_TOLERANCE):
        raise OptionError(
            f"{name}: a row of labels is no distribution",
            got=f"entries from {values.min():g}, sums from {sums.min():g} to "
            f"{sums.max():g}",
            expected="entries of 0 or more that sum to 1",
            hint="several labels at once: sigmoid_cross_entropy",
        )
    return targets


def check_class_weights(name: str, weights: Any, scores: Tensor) -> Tensor:
    """One number of 0 or more for each class, in the scores' dtype."""
    w = as_tensor(weights).astype(scores.dtype)
    if w.shape != scores.shape[1:]:
        raise ShapeError(
            f"{name}: one weight for each class",
            got=w.spec,
            expected=f"({scores.shape[1]},)",
        )
    values = known_values(w)
    if values is not None and not (values >= 0).all():
        raise OptionError(
            f"{name}: a class weight is negative",
            got=f"smallest weight {values.min():g}",
            expected="weights of 0 or more",
        )
    return w


def check_pair(name: str, predictions: Any, targets: Any) -> tuple[Tensor, Tensor]:
    """Two tensors of one shape, in the float dtype of the first."""
    p, y = as_tensor(predictions), as_tensor(targets)
    if not is_float(p.dtype):
        raise DtypeError(
            f"{name}: predictions are not floats",
            got=p.spec,
            expected="float32 or float64",
        )
    if p.shape != y.shape:
        raise ShapeError(
            f"{name}: predictions and targets differ in shape",
            got=f"{p.spec} and {y.spec}",
            expected="equal shapes",
            hint="reshape one of them: (n,) and (n, 1) are not the same",
        )
    _check_not_empty(name, p)
    return p, y.astype(p.dtype)
