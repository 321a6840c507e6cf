"""Losses: how far outputs are from what was wanted, as one number to make small.

One rule for all: a loss is a sum over an example's outputs, L_i, and ``reduction`` says
what becomes of the examples: "mean" 1/n Σ L_i, "sum" Σ L_i, "none" the L_i themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.core.graph import Tensor, apply, as_tensor, known_values, mode
from chainrule.errors import OptionError, ShapeError
from chainrule.nn.labels import (
    check_class_weights,
    check_labels,
    check_pair,
    check_scores,
    class_targets,
)
from chainrule.nn.similarity import from_moments, window
from chainrule.ops.indexing import Index

__all__ = [
    "LOSSES",
    "absolute_error",
    "contrastive",
    "extended_cross_entropy",
    "infogain",
    "loss",
    "multiclass_hinge",
    "multinomial_logistic",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "squared_error",
    "ssim",
]

_REDUCTIONS = ("mean", "sum", "none")
_SMALLEST_PROBABILITY = 1e-20  # Caffe's; its logarithm is about -46


# --------------------------------------------------------------------- classifying


def softmax_cross_entropy(
    scores: Any,
    labels: Any,
    *,
    label_smoothing: float = 0.0,
    class_weights: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """The surprise at the right class: L_i = -log softmax(s)_y.

    With probabilities as labels, L_i = -Σ_k y_k log softmax(s)_k; smoothing by ε makes
    y into (1 - ε)·y + ε/K. With class weights the terms are multiplied by w_k, and the
    mean divides by Σ_i Σ_k w_k y_ik of the unsmoothed labels instead of n.

    Args:
        scores: the network's outputs, before any softmax.
        labels: classes counted from 0, or one-hot rows, or rows of probabilities.
        label_smoothing: ε, from 0 to 1.
        class_weights: one number for each class, 0 or more.
        reduction: "mean", "sum" or "none".

    Shapes: scores (n, k), labels (n) or (n, k).

    Raises:
        DtypeError: for labels that are neither classes nor probabilities by type.
        ShapeError: for shapes that do not belong together.
        IndexingError: for a label outside 0 … k - 1.
        OptionError: for an option out of range, or rows that are no probabilities.

    Example:
        >>> softmax_cross_entropy([[2.0, 0.0], [0.0, 0.0]], [0, 1]).item()
        0.410...

    Source: aarhus, loss functions; intellivision, softmax loss; smoothing: Szegedy,
    Vanhoucke, Ioffe, Shlens & Wojna, "Rethinking the Inception architecture", 2016.
    """
    name = "softmax_cross_entropy"
    s = check_scores(name, scores)
    y = as_tensor(labels)
    logs = ops.log_softmax(s)
    if y.ndim == 1 and not label_smoothing and class_weights is None:
        picked = _pick(logs, check_labels(name, y, s))
        return _reduce(name, picked, reduction, factor=-1.0)
    targets = class_targets(name, y, s)
    if not 0 <= label_smoothing <= 1:
        raise OptionError(
            f"{name}: label_smoothing out of range",
            got=label_smoothing,
            expected="a number from 0 to 1",
        )
    smooth = targets * (1 - label_smoothing) + label_smoothing / s.shape[1]
    if class_weights is None:
        return _reduce(name, ops.sum(smooth * logs, axis=1), reduction, factor=-1.0)
    weights = check_class_weights(name, class_weights, s)
    terms = ops.sum(smooth * weights * logs, axis=1)
    if reduction == "mean":
        return -ops.sum(terms) / ops.sum(targets * weights)
    return _reduce(name, terms, reduction, factor=-1.0)


def extended_cross_entropy(
    scores: Any, labels: Any, *, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy in which wrong classes count: all terms of y and of 1 - y.

    L_i = -Σ_k [y_k log h_k + (1 - y_k) log(1 - h_k)] with h = softmax(s). log(1 - h) of
    the largest h is taken from the sum of the others, so that nothing cancels.

    Shapes: scores (n, k) with k ≥ 2, labels (n) or (n, k).

    Raises:
        DtypeError, ShapeError, IndexingError, OptionError: as softmax_cross_entropy.

    Source: aarhus, loss functions ("inspired by logistic loss").
    """
    name = "extended_cross_entropy"
    s = check_scores(name, scores)
    num_classes = s.shape[1]
    if num_classes < 2:
        raise ShapeError(
            f"{name}: one class leaves nothing to tell apart",
            got=s.spec,
            expected="(n, k) with k ≥ 2",
        )
    y = class_targets(name, as_tensor(labels), s)
    log_h = ops.log_softmax(s)
    is_top = ops.expand_dims(ops.argmax(s, axis=1), 1) == np.arange(num_classes)
    others = ops.logsumexp(ops.where(is_top, -math.inf, log_h), axis=1, keepdims=True)
    # Every h but the largest is at most 1/2; its own value would give log(0) here.
    log_h_below_half = ops.where(is_top, -math.log(2), log_h)
    log_not_h = ops.where(is_top, others, ops.log1p(-ops.exp(log_h_below_half)))
    terms = y * log_h + (1 - y) * log_not_h
    return _reduce(name, ops.sum(terms, axis=1), reduction, factor=-1.0)


def sigmoid_cross_entropy(
    scores: Any, targets: Any, *, reduction: str = "mean"
) -> Tensor:
    """Independent yes-or-no labels: L_i = -Σ_k [y log σ(s) + (1 - y) log(1 - σ(s))].

    Computed as Σ_k log(1 + e^s) - y·s, which no score overflows. With one output and
    ``reduction="sum"`` it is the lecture's logistic loss.

    Args:
        scores: the network's outputs, before any sigmoid.
        targets: 0 or 1, or probabilities between.

    Shapes: both (n), or both (n, k).

    Raises:
        ShapeError: if the shapes differ.
        OptionError: for a target outside [0, 1].

    Source: aarhus, logistic regression and multi-label classification.
    """
    name = "sigmoid_cross_entropy"
    s, y = check_pair(name, scores, targets)
    values = known_values(y)
    if values is not None and not (values.min() >= 0 and values.max() <= 1):
        raise OptionError(
            f"{name}: a target is no probability",
            got=f"targets from {values.min():g} to {values.max():g}",
            expected="0 to 1",
            hint="labels are 0 and 1 here, not -1 and 1",
        )
    return _reduce(name, _sum_outputs(ops.softplus(s) - y * s), reduction)


def multiclass_hinge(
    scores: Any, labels: Any, *, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """The SVM loss: L_i = Σ_{j≠y} max(0, s_j - s_y + margin).

    Shapes: scores (n, k), labels (n).

    Raises:
        DtypeError, ShapeError, IndexingError: as softmax_cross_entropy.
        OptionError: for a margin that is negative or not finite.

    Example:
        >>> multiclass_hinge([[3.2, 5.1, -1.7]], [0]).item()
        2.899...

    Source: Weston & Watkins, "Support vector machines for multi-class pattern
    recognition", 1999; intellivision, multiclass SVM loss.
    """
    name = "multiclass_hinge"
    if not 0 <= margin < math.inf:
        raise OptionError(
            f"{name}: margin out of range",
            got=margin,
            expected="a finite number, 0 or more",
        )
    s = check_scores(name, scores)
    right = _pick(s, check_labels(name, as_tensor(labels), s))
    excess = ops.relu(s - ops.expand_dims(right, 1) + margin)
    # The right class itself adds exactly the margin to the sum; take it off again.
    return _reduce(name, ops.sum(excess, axis=1) - margin, reduction)


def infogain(
    scores: Any, labels: Any, matrix: Any, *, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy with a price for each confusion.

    L_i = -Σ_k H[y, k] log softmax(s)_k. The identity as H gives softmax cross-entropy.

    Shapes: scores (n, k), labels (n), matrix (k, k).

    Raises:
        DtypeError, ShapeError, IndexingError: as softmax_cross_entropy.

    Source: Caffe's InfogainLoss layer, in its later form that takes scores.
    """
    name = "infogain"
    s = check_scores(name, scores)
    y = check_labels(name, as_tensor(labels), s)
    prices = as_tensor(matrix).astype(s.dtype)
    if prices.shape != (s.shape[1], s.shape[1]):
        raise ShapeError(
            f"{name}: the matrix does not have a row and a column for each class",
            got=prices.spec,
            expected=f"({s.shape[1]}, {s.shape[1]})",
        )
    terms = ops.take(prices, y) * ops.log_softmax(s)
    return _reduce(name, ops.sum(terms, axis=1), reduction, factor=-1.0)


def multinomial_logistic(
    probabilities: Any, labels: Any, *, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of given probabilities: L_i = -log p_y, with p at least 1e-20.

    For outputs that are probabilities already; ``softmax_cross_entropy`` of the scores
    is more exact.

    Shapes: probabilities (n, k), labels (n).

    Raises:
        DtypeError, ShapeError, IndexingError: as softmax_cross_entropy.

    Source: Caffe's MultinomialLogisticLoss layer.
    """
    name = "multinomial_logistic"
    p = check_scores(name, probabilities)
    picked = _pick(p, check_labels(name, as_tensor(labels), p))
    logs = ops.log(ops.clip(picked, low=_SMALLEST_PROBABILITY))
    return _reduce(name, logs, reduction, factor=-1.0)


# ----------------------------------------------------------------------- measuring


def squared_error(
    predictions: Any, targets: Any, *, half: bool = False, reduction: str = "mean"
) -> Tensor:
    """The squared distance: L_i = Σ_k (y - ŷ)², or half of it.

    The lectures' forms: ½‖y - ŷ‖² is ``half=True, reduction="sum"``; ‖y - ŷ‖², summed,
    is ``reduction="sum"``; 1/(2n) Σ‖y - ŷ‖² (Caffe's euclidean loss) is ``half=True``.

    Shapes: both (n, ...).

    Raises:
        ShapeError: if the shapes differ.

    Example:
        >>> squared_error([[3.0, 1.0]], [[1.0, 1.0]], half=True).item()
        2.0
    """
    p, y = check_pair("squared_error", predictions, targets)
    squares = _sum_outputs(ops.square(p - y))
    return _reduce("squared_error", squares, reduction, factor=0.5 if half else 1.0)


def absolute_error(
    predictions: Any, targets: Any, *, reduction: str = "mean"
) -> Tensor:
    """The distance in steps along the axes: L_i = Σ_k |y - ŷ|.

    Shapes: both (n, ...).

    Raises:
        ShapeError: if the shapes differ.
    """
    p, y = check_pair("absolute_error", predictions, targets)
    return _reduce("absolute_error", _sum_outputs(ops.abs(p - y)), reduction)


def contrastive(
    first: Any,
    second: Any,
    is_similar: Any,
    *,
    margin: float = 1.0,
    reduction: str = "mean",
) -> Tensor:
    """Pulls like pairs together, pushes others apart up to a margin.

    L_i = ½·[y·d² + (1 - y)·max(0, margin - d)²] with d = ‖a - b‖; where d = 0 its
    derivative is taken as 0.

    Args:
        first, second: features of the two halves of each pair.
        is_similar: 1 (or True) for like pairs, 0 for others.
        margin: the distance beyond which unlike pairs are left alone.

    Shapes: first and second (n, k), is_similar (n).

    Raises:
        ShapeError: if the shapes do not belong together.

    Source: Hadsell, Chopra & LeCun, "Dimensionality reduction by learning an invariant
    mapping", 2006, equation 4; Caffe's ContrastiveLoss layer.
    """
    name = "contrastive"
    a, b = check_pair(name, first, second)
    y = as_tensor(is_similar).astype(a.dtype)
    if a.ndim != 2 or y.shape != a.shape[:1]:
        raise ShapeError(
            f"{name}: pairs and their labels do not belong together",
            got=f"features {a.spec}, labels {y.spec}",
            expected="(n, k) and (n)",
        )
    squared = ops.sum(ops.square(a - b), axis=1)
    is_apart = squared > 0
    # The root's slope is infinite at 0, so it is never taken there.
    distance = ops.where(is_apart, ops.sqrt(ops.where(is_apart, squared, 1.0)), 0.0)
    push = ops.square(ops.relu(margin - distance))
    return _reduce(name, y * squared + (1 - y) * push, reduction, factor=0.5)


def ssim(
    predictions: Any, targets: Any, *, peak: float = 255.0, reduction: str = "mean"
) -> Tensor:
    """What pictures lack in structural similarity: L_i = 1 - mean SSIM(ŷ, y).

    The mean is over windows and channels. Formula, windows and their source are those
    of ``chainrule.nn.similarity``; ``restoration.ssim`` measures the same.

    Args:
        peak: the difference between the brightest and the darkest level: 255 for
            bytes, 1 for levels from 0 to 1.

    Shapes: both (n, h, w, c).

    Raises:
        ShapeError: if the shapes differ, or are no pictures'.
        OptionError: for a peak that is not positive.

    Example:
        >>> picture = np.arange(64.0).reshape(1, 8, 8, 1)
        >>> ssim(picture, picture).item()
        0.0
    """
    name = "ssim"
    x, y = check_pair(name, predictions, targets)
    if x.ndim != 4:
        raise ShapeError(
            f"{name}: what is given are no pictures",
            got=x.spec,
            expected="(n, h, w, c)",
            hint="grey pictures have one channel: (n, h, w, 1)",
        )
    if not 0 < peak < math.inf:
        raise OptionError(
            f"{name}: peak out of range", got=peak, expected="a positive number"
        )
    mean_x, mean_y, xx, yy, xy = map(_window_mean, (x, y, x * x, y * y, x * y))
    # Rounding must not make a variance negative, nor the denominator 0.
    variance_x = ops.relu(xx - mean_x * mean_x)
    variance_y = ops.relu(yy - mean_y * mean_y)
    covariance = xy - mean_x * mean_y
    similarity = from_moments(mean_x, mean_y, variance_x, variance_y, covariance, peak)
    terms = 1 - ops.mean(similarity, axis=(1, 2, 3))
    return _reduce(name, terms, reduction)


def _window_mean(x: Tensor) -> Tensor:
    """The mean in the window of SSIM at each place where the window lies in x."""
    _, height, width, channels = x.shape
    down, across = window(height, width)
    for taps in (down.reshape(-1, 1, 1, 1), across.reshape(1, -1, 1, 1)):
        filters = np.tile(taps.astype(x.dtype), channels)
        x = ops.conv(x, filters, groups=channels)
    return x


# ------------------------------------------------------------------------- by name

LOSSES: dict[str, Callable[..., Tensor]] = {
    "softmax": softmax_cross_entropy,
    "svm": multiclass_hinge,
    "squared": squared_error,
    "absolute": absolute_error,
    "sigmoid": sigmoid_cross_entropy,
    "extended": extended_cross_entropy,
    "ssim": ssim,
}
"""The losses that ``--loss`` knows; all take (outputs, targets, reduction=...)."""


def loss(name: str) -> Callable[..., Tensor]:
    """The loss of a name, as ``--loss`` takes it.

    Raises:
        OptionError: for an unknown name, with the nearest one offered.

    Example:
        >>> loss("svm").__name__
        'multiclass_hinge'
    """
    if name not in LOSSES:
        raise OptionError.unknown("loss", name, LOSSES)
    return LOSSES[name]


# --------------------------------------------------------------------------- parts

_ROWS_AND_COLUMNS = Index.make((("array",), ("array",)))


def _pick(scores: Tensor, labels: Tensor) -> Tensor:
    """Every row's element at its label: one op, the labels having been checked."""
    is_captured = mode.capturing is not None
    rows = ops.positions(labels) if is_captured else _rows(labels.size)
    return apply(_ROWS_AND_COLUMNS, scores, rows, labels)


@lru_cache(maxsize=8)
def _rows(count: int) -> Tensor:
    rows = as_tensor(np.arange(count))
    rows.data.flags.writeable = False  # shared by every minibatch of this size
    return rows


def _reduce(name: str, terms: Tensor, reduction: str, factor: float = 1.0) -> Tensor:
    """Examples' losses, times a factor, as the reduction asks."""
    if reduction == "mean":
        return ops.sum(terms) * (factor / terms.size)
    if reduction not in _REDUCTIONS:
        raise OptionError.unknown(f"reduction of {name}", reduction, _REDUCTIONS)
    y = ops.sum(terms) if reduction == "sum" else terms
    return y if factor == 1 else y * factor


def _sum_outputs(terms: Tensor) -> Tensor:
    """Σ over everything but the examples."""
    axes = tuple(range(1, terms.ndim))
    return ops.sum(terms, axes) if axes else terms
