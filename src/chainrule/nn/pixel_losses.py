"""Losses of label maps: a class for every pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import ops
from chainrule.core.graph import Tensor, as_tensor, known_values
from chainrule.core.spec import is_float
from chainrule.errors import DtypeError, IndexingError, ShapeError
from chainrule.nn.labels import check_class_weights

__all__ = ["pixel_cross_entropy"]


def pixel_cross_entropy(
    scores: Any,
    labels: Any,
    *,
    class_weights: Any = None,
    ignore_label: int = 255,
) -> Tensor:
    """The surprise at the right class of every pixel that counts, as a mean.

    L = Σ_p w_y(p) · -log softmax(s_p)_y(p) / Σ_p w_y(p), over the pixels p of all
    pictures whose label y is not ``ignore_label``; 0 where there is none.

    Args:
        scores: the network's outputs for each pixel, before any softmax.
        labels: classes counted from 0.
        class_weights: one number w for each class, 0 or more; 1 unless given.
        ignore_label: the label of pixels that do not count.

    Shapes: scores (n, h, w, k), labels (n, h, w).

    Raises:
        ShapeError: for shapes that do not belong together.
        DtypeError: for scores that are no floats, or labels that are no integers.
        IndexingError: for a label outside 0 … k - 1 that is to count.

    Example:
        >>> scores = np.zeros((1, 1, 3, 2))
        >>> pixel_cross_entropy(scores, np.array([[[0, 1, 255]]])).item()  # log 2
        0.693...

    Source: Long, Shelhamer & Darrell, "Fully convolutional networks for semantic
    segmentation", 2015, section 4.
    """
    name = "pixel_cross_entropy"
    s, y = as_tensor(scores), as_tensor(labels)
    if s.ndim < 2 or y.shape != s.shape[:-1]:
        raise ShapeError(
            f"{name}: scores and labels of other pixels",
            got=f"scores {s.spec}, labels {y.spec}",
            expected="scores (n, h, w, k), labels (n, h, w)",
        )
    if not is_float(s.dtype) or y.dtype.kind not in "iu":
        raise DtypeError(
            f"{name}: scores are floats and labels whole numbers",
            got=f"scores {s.spec}, labels {y.spec}",
            expected="float32 or float64, and integers",
        )
    num_classes = s.shape[-1]
    values = known_values(y)
    if values is not None:
        counting = values[values != ignore_label]
        if counting.size and not (counting.min() >= 0 and counting.max() < num_classes):
            raise IndexingError(
                f"{name}: a label is out of range",
                got=f"labels from {counting.min()} to {counting.max()}",
                expected=f"0 to {num_classes - 1}, or {ignore_label} for pixels that "
                "do not count",
            )
    # A label that does not count equals no class, so all its terms are 0.
    classes = ops.expand_dims(y.astype("int64"), y.ndim) == np.arange(num_classes)
    if 0 <= ignore_label < num_classes:
        classes = ops.logical_and(classes, np.arange(num_classes) != ignore_label)
    weight = classes.astype(s.dtype)
    if class_weights is not None:
        rows = ops.reshape(s, (-1, num_classes))
        weight = weight * check_class_weights(name, class_weights, rows)
    total = ops.sum(weight)
    surprise = -ops.sum(ops.where(classes, ops.log_softmax(s), 0.0) * weight)
    return surprise / ops.where(total == 0, 1.0, total)
