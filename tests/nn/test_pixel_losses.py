"""Cross-entropy over pixels, against that over rows."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import ChainruleError, DtypeError, IndexingError, ShapeError

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 4, 5, 6))
LABELS = RNG.integers(0, 6, (3, 4, 5))


@pytest.mark.parametrize("weights", [None, [0.5, 1, 2, 0, 3, 1]])
def test_it_is_the_loss_of_the_rows_that_count(weights: list[float] | None) -> None:
    labels = np.where(RNG.random(LABELS.shape) < 0.3, 255, LABELS)
    s = cr.Tensor(SCORES, requires_grad=True)
    loss = nn.pixel_cross_entropy(s, labels, class_weights=weights)
    loss.backward()
    counts = labels != 255
    rows = cr.Tensor(SCORES[counts], requires_grad=True)
    expected = nn.softmax_cross_entropy(rows, labels[counts], class_weights=weights)
    expected.backward()
    assert s.grad is not None
    assert rows.grad is not None
    np.testing.assert_allclose(loss.item(), expected.item(), rtol=1e-12)
    np.testing.assert_allclose(s.grad.numpy()[counts], rows.grad.numpy(), atol=1e-15)
    assert not s.grad.numpy()[~counts].any()


def test_native_code_agrees_and_pixels_of_any_label_can_be_left_out() -> None:
    @cr.compile
    def step(scores: cr.Tensor, labels: cr.Tensor) -> cr.Tensor:
        return nn.pixel_cross_entropy(scores, labels, ignore_label=2)

    with cr.no_grad():
        native = step(cr.Tensor(SCORES), cr.Tensor(LABELS.astype(np.uint8)))
    kept = LABELS != 2
    expected = nn.softmax_cross_entropy(SCORES[kept], LABELS[kept])
    np.testing.assert_allclose(native.item(), expected.item(), rtol=1e-12)
    assert step.report().through_compute == []


def test_where_nothing_counts_nothing_is_learned() -> None:
    s = cr.Tensor(SCORES, requires_grad=True)
    loss = nn.pixel_cross_entropy(s, np.full((3, 4, 5), 255))
    loss.backward()
    assert loss.item() == 0
    assert s.grad is not None
    assert not s.grad.numpy().any()


@pytest.mark.parametrize(
    ("scores", "labels", "kind"),
    [
        (SCORES, LABELS[:, :3], ShapeError),
        (SCORES, LABELS.astype(float), DtypeError),
        (LABELS[..., None], LABELS, DtypeError),
        (SCORES, LABELS + 1, IndexingError),
        (SCORES, LABELS - 1, IndexingError),
    ],
)
def test_what_does_not_belong_together_is_refused(
    scores: np.ndarray, labels: np.ndarray, kind: type[ChainruleError]
) -> None:
    with pytest.raises(kind, match="pixel_cross_entropy"):
        nn.pixel_cross_entropy(scores, labels)
