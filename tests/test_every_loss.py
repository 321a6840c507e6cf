"""One contract that every loss keeps, against formulas written in plain NumPy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from skimage.metrics import structural_similarity

import chainrule as cr
from chainrule import nn
from chainrule.core.backward import gradients
from chainrule.errors import DtypeError, IndexingError, OptionError, ShapeError

N, K = 5, 4
LABELS = np.array([0, 3, 1, 1, 2])
SOFT = np.random.default_rng(7).dirichlet(np.ones(K), N)
WEIGHTS = np.array([0.5, 1.0, 2.0, 0.0])
PRICES = np.random.default_rng(8).uniform(0.0, 2.0, (K, K))
SIMILAR = np.array([1, 0, 0, 1, 0])
OTHERS = np.random.default_rng(9).normal(size=(N, K))
ONE_HOT = np.eye(K)[LABELS]
PICTURES = np.random.default_rng(10).normal(size=(N, 12, 11, 2))


def sigmoid(s: Any) -> Any:
    return 1 / (1 + np.exp(-s))


def extended(s: Any, y: Any) -> Any:
    h = softmax(s, axis=1)
    return -(y * np.log(h) + (1 - y) * np.log(1 - h)).sum(axis=1)


def hinge(s: Any, labels: Any, margin: float) -> Any:
    return np.array(
        [
            sum(max(0.0, row[j] - row[y] + margin) for j in range(K) if j != y)
            for row, y in zip(s, labels, strict=True)
        ]
    )


def contrastive(a: Any, margin: float) -> Any:
    d = np.sqrt(((a - OTHERS) ** 2).sum(axis=1))
    return 0.5 * np.where(SIMILAR, d**2, np.maximum(0, margin - d) ** 2)


def dissimilarity(pictures: Any) -> Any:
    each = [
        structural_similarity(
            x, y, data_range=4.0, channel_axis=-1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )
        for x, y in zip(pictures, PICTURES, strict=True)
    ]  # fmt: skip
    return 1 - np.array(each)


@dataclass(frozen=True)
class Row:
    """A loss of one tensor, its formula for the examples' losses, and its inputs."""

    loss: Callable[..., cr.Tensor]
    formula: Callable[[Any], Any]
    is_probability: bool = False
    shape: tuple[int, ...] = (K,)


ROWS = {
    "softmax_cross_entropy": Row(
        lambda s, **k: nn.softmax_cross_entropy(s, LABELS, **k),
        lambda s: -log_softmax(s, axis=1)[np.arange(N), LABELS],
    ),
    "softmax_cross_entropy one-hot": Row(
        lambda s, **k: nn.softmax_cross_entropy(s, ONE_HOT.astype(int), **k),
        lambda s: -log_softmax(s, axis=1)[np.arange(N), LABELS],
    ),
    "softmax_cross_entropy probabilities": Row(
        lambda s, **k: nn.softmax_cross_entropy(s, SOFT, **k),
        lambda s: -(SOFT * log_softmax(s, axis=1)).sum(axis=1),
    ),
    "softmax_cross_entropy smoothed": Row(
        lambda s, **k: nn.softmax_cross_entropy(s, LABELS, label_smoothing=0.1, **k),
        lambda s: -((0.9 * ONE_HOT + 0.1 / K) * log_softmax(s, axis=1)).sum(axis=1),
    ),
    "extended_cross_entropy": Row(
        lambda s, **k: nn.extended_cross_entropy(s, LABELS, **k),
        lambda s: extended(s, ONE_HOT),
    ),
    "extended_cross_entropy probabilities": Row(
        lambda s, **k: nn.extended_cross_entropy(s, SOFT, **k),
        lambda s: extended(s, SOFT),
    ),
    "sigmoid_cross_entropy": Row(
        lambda s, **k: nn.sigmoid_cross_entropy(s, SOFT > 0.2, **k),
        lambda s: -np.log(np.where(SOFT > 0.2, sigmoid(s), 1 - sigmoid(s))).sum(axis=1),
    ),
    "multiclass_hinge": Row(
        lambda s, **k: nn.multiclass_hinge(s, LABELS, **k),
        lambda s: hinge(s, LABELS, 1.0),
    ),
    "multiclass_hinge with margin": Row(
        lambda s, **k: nn.multiclass_hinge(s, LABELS, margin=0.5, **k),
        lambda s: hinge(s, LABELS, 0.5),
    ),
    "infogain": Row(
        lambda s, **k: nn.infogain(s, LABELS, PRICES, **k),
        lambda s: -(PRICES[LABELS] * log_softmax(s, axis=1)).sum(axis=1),
    ),
    "multinomial_logistic": Row(
        lambda p, **k: nn.multinomial_logistic(p, LABELS, **k),
        lambda p: -np.log(p[np.arange(N), LABELS]),
        is_probability=True,
    ),
    "squared_error": Row(
        lambda p, **k: nn.squared_error(p, OTHERS, **k),
        lambda p: ((p - OTHERS) ** 2).sum(axis=1),
    ),
    "squared_error halved": Row(
        lambda p, **k: nn.squared_error(p, OTHERS, half=True, **k),
        lambda p: 0.5 * ((p - OTHERS) ** 2).sum(axis=1),
    ),
    "absolute_error": Row(
        lambda p, **k: nn.absolute_error(p, OTHERS, **k),
        lambda p: np.abs(p - OTHERS).sum(axis=1),
    ),
    "ssim": Row(
        lambda p, **k: nn.ssim(p, PICTURES, peak=4.0, **k),
        dissimilarity,
        shape=PICTURES.shape[1:],
    ),
    "contrastive": Row(
        lambda a, **k: nn.contrastive(a, OTHERS, SIMILAR, margin=4.0, **k),
        lambda a: contrastive(a, 4.0),
    ),
}

every_loss = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
CLASSIFYING = {
    "softmax_cross_entropy": nn.softmax_cross_entropy,
    "extended_cross_entropy": nn.extended_cross_entropy,
    "multiclass_hinge": nn.multiclass_hinge,
    "infogain": lambda s, y: nn.infogain(s, y, np.eye(len(s[0]))),
    "multinomial_logistic": nn.multinomial_logistic,
}
every_classifying_loss = pytest.mark.parametrize("name", CLASSIFYING)


def outputs(row: Row, dtype: str = "float64") -> Any:
    scores = np.random.default_rng(0).normal(size=(N, *row.shape)) * 2
    return (softmax(scores, axis=1) if row.is_probability else scores).astype(dtype)


def test_every_loss_is_in_the_table() -> None:
    public = {
        name
        for name in nn.losses.__all__
        if inspect.isfunction(getattr(nn, name)) and name != "loss"
    }
    assert public == {name.split()[0] for name in ROWS}


@every_loss
def test_values_agree_with_the_formula(row: Row) -> None:
    s = outputs(row)
    expected = row.formula(s)
    np.testing.assert_allclose(row.loss(s, reduction="none").data, expected, rtol=1e-12)
    assert row.loss(s, reduction="sum").item() == pytest.approx(expected.sum(), 1e-12)
    assert row.loss(s).item() == pytest.approx(expected.sum() / N, 1e-12)


@every_loss
def test_gradients_agree_with_differences(row: Row) -> None:
    s = cr.Tensor(outputs(row), requires_grad=True)
    (found,) = gradients(row.loss(s), [s])
    expected = np.empty(s.shape)
    for place in np.ndindex(s.shape):
        moved = np.zeros(s.shape)
        moved[place] = 1e-6
        above, below = row.formula(s.data + moved), row.formula(s.data - moved)
        expected[place] = (above - below).sum() / N / 2e-6
    np.testing.assert_allclose(found.data, expected, rtol=1e-6, atol=1e-8)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_of_the_outputs_is_kept(row: Row, dtype: str) -> None:
    s = cr.Tensor(outputs(row, dtype), requires_grad=True)
    for reduction in ("mean", "sum", "none"):
        y = row.loss(s, reduction=reduction)
        assert y.dtype == dtype
        assert y.shape == ((N,) if reduction == "none" else ())
    row.loss(s).backward()
    assert s.grad.dtype == dtype


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_outputs_have_finite_losses_and_gradients(row: Row, dtype: str) -> None:
    signs = np.sign(outputs(row))
    extreme = np.clip(signs, 0, 1) if row.is_probability else signs * 1e4
    second = np.arange(extreme.shape[-1]) == 1
    for array in (extreme, -extreme, np.zeros_like(extreme), extreme * second):
        s = cr.Tensor(array.astype(dtype), requires_grad=True)
        y = row.loss(s)
        y.backward()
        assert np.isfinite(y.data)
        assert np.isfinite(s.grad.data).all()


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_native_code_agrees_in_values_and_gradients(
    row: Row, dtype: str, agreement: Any
) -> None:
    def f(s: Any) -> Any:
        return [row.loss(s, reduction=r) for r in ("mean", "sum", "none")]

    agreement.check(f, [outputs(row)], dtype)


@every_loss
def test_an_unknown_reduction_is_refused(row: Row) -> None:
    with pytest.raises(OptionError, match="did you mean 'mean'"):
        row.loss(outputs(row), reduction="meen")


@every_loss
def test_no_examples_are_refused(row: Row) -> None:
    loss = ROWS["squared_error"].loss if row is ROWS["contrastive"] else row.loss
    with pytest.raises(ShapeError):
        loss(np.zeros((0, *row.shape)))


def test_very_wrong_scores_cost_their_gap_and_pull_with_full_strength() -> None:
    for loss, value, slope in [
        (nn.softmax_cross_entropy, 2e4, [1.0, -1.0]),
        (nn.extended_cross_entropy, 4e4, [2.0, -2.0]),
        (nn.multiclass_hinge, 2e4 + 1, [1.0, -1.0]),
    ]:
        s = cr.Tensor([[1e4, -1e4]], requires_grad=True)
        y = loss(s, [1])
        y.backward()
        assert y.item() == value
        assert s.grad.tolist() == [slope]


def test_probabilities_near_one_keep_their_small_extended_losses() -> None:
    s = cr.Tensor([[40.0, 0.0]], dtype="float64")
    # h = (1 - e^-40, e^-40); naively log(1 - h) of the first is log(0).
    assert nn.extended_cross_entropy(s, [0]).item() == pytest.approx(2 * np.exp(-40))
    assert nn.extended_cross_entropy(s, [1]).item() == pytest.approx(80.0)


def test_tied_scores_share_the_extended_loss() -> None:
    s = cr.Tensor([[0.0, 0.0]], dtype="float64", requires_grad=True)
    y = nn.extended_cross_entropy(s, [0])
    y.backward()
    assert y.item() == pytest.approx(2 * np.log(2))
    np.testing.assert_allclose(s.grad.data, [[-1.0, 1.0]])


def test_class_weights_divide_the_mean_by_the_weights_met() -> None:
    s = np.random.default_rng(1).normal(size=(N, K))
    each = -log_softmax(s, axis=1)[np.arange(N), LABELS] * WEIGHTS[LABELS]
    expected = each.sum() / WEIGHTS[LABELS].sum()
    for labels in (LABELS, ONE_HOT):
        found = nn.softmax_cross_entropy(s, labels, class_weights=WEIGHTS)
        assert found.item() == pytest.approx(expected)
    summed = nn.softmax_cross_entropy(s, LABELS, class_weights=WEIGHTS, reduction="sum")
    assert summed.item() == pytest.approx(each.sum())


def test_class_weights_also_weigh_smoothed_labels() -> None:
    s = np.random.default_rng(1).normal(size=(N, K))
    smooth = 0.8 * ONE_HOT + 0.2 / K
    each = -(smooth * WEIGHTS * log_softmax(s, axis=1)).sum(axis=1)
    found = nn.softmax_cross_entropy(
        s, LABELS, class_weights=WEIGHTS, label_smoothing=0.2
    )
    assert found.item() == pytest.approx(each.sum() / WEIGHTS[LABELS].sum())


def test_bytes_are_labels_too() -> None:
    s = np.random.default_rng(1).normal(size=(N, K))
    expected = nn.softmax_cross_entropy(s, LABELS).item()
    assert nn.softmax_cross_entropy(s, LABELS.astype(np.uint8)).item() == expected


def test_targets_may_need_gradients() -> None:
    targets = cr.Tensor(OTHERS, requires_grad=True)
    nn.squared_error(np.zeros((N, K)), targets, reduction="sum").backward()
    np.testing.assert_allclose(targets.grad.data, 2 * OTHERS)


def test_a_pair_at_the_same_place_has_no_gradient_and_no_nan() -> None:
    a = cr.Tensor(np.ones((2, 3)), requires_grad=True)
    y = nn.contrastive(a, np.ones((2, 3)), [1, 0])
    y.backward()
    assert y.item() == 0.25
    assert a.grad.data.tolist() == np.zeros((2, 3)).tolist()


def test_impossible_probabilities_cost_as_much_as_in_caffe() -> None:
    found = nn.multinomial_logistic(np.array([[0.0, 1.0]]), [0])
    assert found.item() == pytest.approx(-np.log(1e-20))


# ------------------------------------------------------------------------ bad input


@every_classifying_loss
@pytest.mark.parametrize(("labels", "got"), [([0, 3], "0 to 3"), ([-1, 0], "-1 to 0")])
def test_labels_out_of_range_are_named(name: str, labels: list[int], got: str) -> None:
    with pytest.raises(IndexingError) as caught:
        CLASSIFYING[name](np.full((2, 3), 1 / 3), labels)
    assert str(caught.value) == (
        f"{name}: a label is out of range\n"
        f"  got:      labels from {got}\n"
        "  expected: 0 to 2, as there are 3 scores\n"
        "  try:      count classes from 0, or give the network more outputs"
    )


@every_classifying_loss
def test_labels_that_are_fractions_are_refused(name: str) -> None:
    with pytest.raises(DtypeError) as caught:
        CLASSIFYING[name](np.full((2, 3), 1 / 3), np.array([0.0, 1.0]))
    assert str(caught.value) == (
        f"{name}: labels are not classes\n"
        "  got:      float64[2]\n"
        "  expected: int64[2]\n"
        "  try:      labels.astype('int64')"
    )


@every_classifying_loss
def test_another_number_of_labels_is_refused(name: str) -> None:
    with pytest.raises(ShapeError) as caught:
        CLASSIFYING[name](np.full((2, 3), 1 / 3), np.array([0, 1, 1]))
    assert str(caught.value) == (
        f"{name}: one label for each row of scores\n"
        "  got:      scores float64[2, 3], labels int64[3]\n"
        "  expected: labels of shape (2,)"
    )


@every_classifying_loss
def test_scores_that_are_no_rows_are_refused(name: str) -> None:
    with pytest.raises(ShapeError) as caught:
        CLASSIFYING[name](np.zeros((2, 3, 1)), np.array([0, 1]))
    assert str(caught.value) == (
        f"{name}: one row of scores for each example\n"
        "  got:      float64[2, 3, 1]\n"
        "  expected: (n, k)\n"
        "  try:      Flatten() turns images into rows"
    )


@every_classifying_loss
def test_labels_in_the_place_of_scores_are_refused(name: str) -> None:
    with pytest.raises(DtypeError) as caught:
        CLASSIFYING[name](np.zeros((2, 3), np.int64), np.array([0, 1]))
    assert str(caught.value) == (
        f"{name}: scores are not floats\n"
        "  got:      int64[2, 3]\n"
        "  expected: float32 or float64\n"
        "  try:      are the labels given first? it is (scores, labels)"
    )


def test_several_labels_at_once_are_sent_to_the_sigmoid_loss() -> None:
    with pytest.raises(OptionError) as caught:
        nn.softmax_cross_entropy(np.zeros((2, 3)), np.array([[1, 1, 0], [0, 0, 0]]))
    assert str(caught.value) == (
        "softmax_cross_entropy: a row of labels is no distribution\n"
        "  got:      entries from 0, sums from 0 to 2\n"
        "  expected: entries of 0 or more that sum to 1\n"
        "  try:      several labels at once: sigmoid_cross_entropy"
    )


def test_rows_of_labels_for_other_scores_are_refused() -> None:
    with pytest.raises(ShapeError) as caught:
        nn.softmax_cross_entropy(np.zeros((2, 3)), np.zeros((2, 4)))
    assert str(caught.value) == (
        "softmax_cross_entropy: labels do not belong to the scores\n"
        "  got:      scores float64[2, 3], labels float64[2, 4]\n"
        "  expected: labels of shape (2,), or (2, 3)"
    )


def test_labels_of_minus_one_and_one_are_refused_by_the_sigmoid_loss() -> None:
    with pytest.raises(OptionError) as caught:
        nn.sigmoid_cross_entropy(np.zeros(2), np.array([-1, 1]))
    assert str(caught.value) == (
        "sigmoid_cross_entropy: a target is no probability\n"
        "  got:      targets from -1 to 1\n"
        "  expected: 0 to 1\n"
        "  try:      labels are 0 and 1 here, not -1 and 1"
    )


@pytest.mark.parametrize(
    "loss", [nn.squared_error, nn.absolute_error, nn.sigmoid_cross_entropy]
)
def test_targets_are_never_broadcast(loss: Callable[..., Any]) -> None:
    with pytest.raises(ShapeError) as caught:
        loss(np.zeros((2, 1)), np.zeros(2))
    assert str(caught.value) == (
        f"{loss.__name__}: predictions and targets differ in shape\n"
        "  got:      float64[2, 1] and float64[2]\n"
        "  expected: equal shapes\n"
        "  try:      reshape one of them: (n,) and (n, 1) are not the same"
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label_smoothing": 1.5}, OptionError, "label_smoothing out of range"),
        ({"class_weights": [1.0, 2.0]}, ShapeError, "one weight for each class"),
        ({"class_weights": [1.0, -2.0, 0.0]}, OptionError, "weight is negative"),
    ],
)
def test_options_of_softmax_cross_entropy_are_checked(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nn.softmax_cross_entropy(np.zeros((2, 3)), [0, 1], **options)


def test_an_infogain_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(ShapeError, match="a row and a column for each class"):
        nn.infogain(np.zeros((2, 3)), [0, 1], np.eye(2))


def test_one_class_cannot_have_an_extended_loss() -> None:
    with pytest.raises(ShapeError, match="nothing to tell apart"):
        nn.extended_cross_entropy(np.zeros((2, 1)), [0, 0])


def test_pairs_and_their_labels_must_have_one_length() -> None:
    with pytest.raises(ShapeError, match="do not belong together"):
        nn.contrastive(np.zeros((2, 3)), np.zeros((2, 3)), [1, 0, 1])


def test_losses_are_found_by_name() -> None:
    assert nn.loss("softmax") is nn.softmax_cross_entropy
    with pytest.raises(OptionError) as caught:
        nn.loss("sotfmax")
    assert str(caught.value) == (
        "unknown loss 'sotfmax'\n"
        "  got:      'sotfmax'\n"
        "  expected: one of absolute, extended, sigmoid, softmax, squared, ssim, svm\n"
        "  try:      did you mean 'softmax'?"
    )


@pytest.mark.parametrize("margin", [-1.0, math.nan, math.inf])
def test_the_hinge_refuses_a_margin_that_is_no_distance(margin):
    with pytest.raises(OptionError) as caught:
        nn.multiclass_hinge([[1.0, 2.0]], [0], margin=margin)
    assert str(caught.value) == (
        "multiclass_hinge: margin out of range\n"
        f"  got:      {margin}\n"
        "  expected: a finite number, 0 or more"
    )
    assert nn.multiclass_hinge([[1.0, 2.0]], [0], margin=0.0).item() == 1.0


@pytest.mark.parametrize("peak", [0.0, -1.0, math.nan, math.inf])
def test_ssim_refuses_a_peak_that_is_no_range_of_levels(peak: float) -> None:
    with pytest.raises(OptionError, match="peak out of range"):
        nn.ssim(PICTURES, PICTURES, peak=peak)


def test_ssim_is_of_pictures_alone() -> None:
    with pytest.raises(ShapeError) as caught:
        nn.ssim(np.zeros((2, 28, 28)), np.zeros((2, 28, 28)))
    assert str(caught.value) == (
        "ssim: what is given are no pictures\n"
        "  got:      float64[2, 28, 28]\n"
        "  expected: (n, h, w, c)\n"
        "  try:      grey pictures have one channel: (n, h, w, 1)"
    )
