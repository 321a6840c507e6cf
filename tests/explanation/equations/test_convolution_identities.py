"""Both gradients of a convolution as convolutions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import OptionError, ShapeError
from chainrule.explanation.equations import convolution_identities

RNG = np.random.default_rng(0)
PADDINGS: list[Any] = [0, 1, "same", ((1, 0), (0, 2)), ((-1, 0), (0, -1))]


def test_the_arithmetic_of_a_2_by_2_filter_on_3_by_3_pixels_is_shown() -> None:
    x, do = np.arange(1.0, 10).reshape(3, 3), [[0.1, 0.2], [0.3, 0.4]]
    text = str(convolution_identities(x, [[1.0, 2.0], [3.0, 4.0]], do))
    assert "∂L/∂F = conv(X, ∂L/∂O)\n" in text
    assert "∂L/∂X = full conv(∂L/∂O, F turned by 180°)\n" in text
    assert "∂L/∂F[0, 0] = 1·0.1 + 2·0.2 + 4·0.3 + 5·0.4 = 3.7" in text
    assert "F turned = 4  3\n           2  1" in text
    # A corner meets one weight, the middle all four.
    assert "∂L/∂X = 0.1  0.4  0.4\n        0.6  2    1.6\n" in text


@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
def test_any_window_equals_automatic_differentiation(stride: Any, padding: Any) -> None:
    for dilation, groups in itertools.product((1, 2, (1, 3)), (1, 2)):
        found = convolution_identities(
            RNG.normal(size=(2, 11, 10, 4)),
            RNG.normal(size=(3, 2, 4 // groups, 6)),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        assert found.difference < 1e-14


@pytest.mark.parametrize("rank", [1, 3])
def test_one_and_three_axes_too(rank: int) -> None:
    x = RNG.normal(size=(2, *[7] * rank, 3))
    found = convolution_identities(
        x, RNG.normal(size=(*[3] * rank, 3, 2)), stride=2, padding=1, dilation=2
    )
    assert found.difference < 1e-14


def test_they_are_the_slopes_that_differences_measure() -> None:
    x, f = RNG.normal(size=(5, 6)), RNG.normal(size=(3, 2))
    do = RNG.normal(size=(3, 3))
    found = convolution_identities(x, f, do, stride=2, padding=((1, 1), (0, 0)))

    def loss(image: Any, taps: Any) -> Any:
        y = cr.conv(
            cr.reshape(image, (1, 5, 6, 1)),
            cr.reshape(taps, (3, 2, 1, 1)),
            stride=2,
            padding=((1, 1), (0, 0)),
        )
        return (y[0, ..., 0] * do).sum()

    dx = cr.numerical_gradient(lambda t: loss(t, f), x).data
    df = cr.numerical_gradient(lambda t: loss(x, t), f).data
    np.testing.assert_allclose(found.dx[0, ..., 0], dx, atol=1e-8)
    np.testing.assert_allclose(found.df[..., 0, 0], df, atol=1e-8)


def test_a_stride_spreads_and_padding_is_cut_off_and_both_are_said() -> None:
    found = convolution_identities(np.ones((4, 4)), np.ones((2, 2)), stride=2)
    assert found.spread[0, ..., 0].tolist() == [[1, 0, 1], [0, 0, 0], [1, 0, 1]]
    text = str(found)
    assert "∂L/∂F = conv(X, ∂L/∂O spread)" in text
    assert "stride - 1 zeros between neighbours" in text
    assert "∂L/∂O spread = 1  0  1" in text
    text = str(convolution_identities(np.ones((4, 4)), np.ones((2, 2)), padding=1))
    assert "∂L/∂F = conv(X padded, ∂L/∂O)" in text
    assert "what lies on the padding is cut off" in text
    text = str(convolution_identities(np.ones((5, 5)), np.ones((2, 2)), dilation=2))
    assert "∂L/∂F = conv(X, ∂L/∂O, stride 2)" in text
    assert "F turned by 180°, dilation 2)" in text


def test_latex_has_the_identities_and_small_matrices() -> None:
    small = convolution_identities(np.eye(2), [[2.0]], stride=1).latex()
    assert r"X * \frac{\partial L}{\partial O}" in small
    assert r"\begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix}" in small
    large = convolution_identities(
        np.ones((1, 9, 9, 2)), np.ones((3, 3, 2, 2)), stride=2, dilation=2, padding=1
    ).latex()
    assert "bmatrix" not in large
    for part in ("pad", "spread", r"stride}\ 2", r"full,\ dilation}\ 2", "rot"):
        assert part in large
    assert large.count("{") == large.count("}")


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(ShapeError, match="∂L/∂O has another shape than O"):
        convolution_identities(np.ones((3, 3)), np.ones((2, 2)), np.ones((3, 3)))
    with pytest.raises(ShapeError, match="other numbers of axes"):
        convolution_identities(np.ones((3, 3)), np.ones((2, 2, 1, 1)))
    with pytest.raises(ShapeError, match="larger than the image"):
        convolution_identities(np.ones((1, 3)), np.ones((2, 2)))
    with pytest.raises(OptionError, match="stride does not fit"):
        convolution_identities(np.ones((3, 3)), np.ones((2, 2)), stride=0)
