"""Reductions beside NumPy: axes, dtypes, ties, nothing to reduce."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import chainrule as cr
from chainrule.errors import OptionError, ShapeError

ARRAYS = arrays(
    np.float64,
    array_shapes(min_dims=0, max_dims=3, max_side=4),
    elements=st.floats(-8, 8, width=32),
)
PAIRS = [
    (cr.sum, np.sum),
    (cr.mean, np.mean),
    (cr.max, np.max),
    (cr.min, np.min),
    (cr.var, np.var),
    (cr.std, np.std),
    (cr.norm, lambda x, **axes: np.sqrt(np.sum(x * x, **axes))),
    (cr.logsumexp, lambda x, **axes: np.log(np.sum(np.exp(x), **axes))),
]


@pytest.mark.parametrize(("ours", "numpys"), PAIRS)
@given(x=ARRAYS, data=st.data(), keepdims=st.booleans())
def test_reductions_over_any_axes_beside_numpy(ours, numpys, x, data, keepdims):
    axes = data.draw(st.none() | st.sets(st.integers(0, max(x.ndim - 1, 0))).map(tuple))
    if axes and not x.ndim:
        axes = ()
    y = ours(x, axes, keepdims=keepdims)
    expected = numpys(x, axis=axes, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    np.testing.assert_allclose(y.data, expected, rtol=1e-12, atol=1e-7)


@given(x=ARRAYS.filter(lambda x: x.ndim), data=st.data())
def test_running_sums_positions_and_softmax_beside_numpy(x, data):
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    np.testing.assert_allclose(cr.cumsum(x, axis).data, np.cumsum(x, axis), atol=1e-12)
    np.testing.assert_array_equal(cr.argmax(x, axis).data, np.argmax(x, axis))
    np.testing.assert_array_equal(cr.argmin(x, axis).data, np.argmin(x, axis))
    assert cr.argmax(x).item() == np.argmax(x)
    y = cr.softmax(x, axis)
    np.testing.assert_allclose(y.data.sum(axis), 1.0)
    np.testing.assert_allclose(cr.log_softmax(x, axis).data, np.log(y.data), atol=1e-9)


def test_integers_are_added_as_int64_and_averaged_as_float32():
    x = cr.Tensor(np.array([2**31 - 1, 1], np.int32))
    assert cr.sum(x).item() == 2**31
    assert cr.cumsum(x).dtype == np.int64
    assert cr.mean(cr.Tensor([1, 2])).dtype == np.float32
    assert cr.sum(cr.Tensor([True, True])).item() == 2
    assert cr.max(cr.Tensor(np.array([3, 200], np.uint8))).dtype == np.uint8


def test_ties_share_the_gradient_of_the_largest_element():
    x = cr.Tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    cr.max(x, 1).backward(np.array([1.0, 3.0]))
    np.testing.assert_allclose(x.grad.data, [[0.0, 0.5, 0.5], [1.0, 1.0, 1.0]])


def test_nothing_has_a_sum_a_mean_and_a_logsumexp():
    x = cr.Tensor(np.zeros((2, 0), np.float32))
    assert cr.sum(x, 1).tolist() == [0.0, 0.0]
    assert np.isnan(cr.mean(x, 1).data).all()
    assert np.isneginf(cr.logsumexp(x, 1).data).all()


def test_logsumexp_of_nothing_but_minus_infinity_has_no_gradient():
    x = cr.Tensor([-math.inf, -math.inf], requires_grad=True)
    y = cr.logsumexp(x)
    y.backward()
    assert y.item() == -math.inf
    assert x.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_the_norm_of_zero_has_a_zero_gradient(order):
    x = cr.Tensor([0.0, 0.0], requires_grad=True)
    cr.norm(x, order=order).backward()
    assert x.grad.tolist() == [0.0, 0.0]


def test_the_spread_of_equal_numbers_has_a_zero_gradient():
    x = cr.Tensor([2.0, 2.0, 2.0], requires_grad=True)
    cr.std(x).backward()
    assert x.grad.tolist() == [0.0, 0.0, 0.0]


def test_too_few_numbers_have_no_variance():
    assert math.isnan(cr.var(cr.Tensor([1.0]), correction=1).item())


def test_float32_means_of_float64_stay_float64():
    assert cr.std(cr.Tensor([1.0, 2.0], "float64")).item() == pytest.approx(
        0.5, rel=1e-15
    )


@pytest.mark.parametrize(
    ("run", "kind", "text"),
    [
        (
            lambda: cr.max(np.zeros((2, 0))), ShapeError,
            "max: no elements to choose from\n"
            "  got:      float64[2, 0]\n"
            "  expected: at least one element along axes (0, 1)",
        ),
        (
            lambda: cr.softmax(np.zeros((2, 0))), ShapeError,
            "softmax: the axis is empty\n"
            "  got:      float64[2, 0]\n"
            "  expected: at least one element along axis 1",
        ),
        (
            lambda: cr.sum(np.zeros(3), 1), ShapeError,
            "sum: no such axis, or one named twice\n"
            "  got:      axis=1 on a tensor of 1 axes\n"
            "  expected: distinct axes from -1 to 0",
        ),
        (
            lambda: cr.sum(1.0, 0), ShapeError,
            "sum: no such axis, or one named twice\n"
            "  got:      axis=0 on a tensor of 0 axes\n"
            "  expected: axis=None: a scalar has no axes",
        ),
        (
            lambda: cr.norm([1.0], order=3), OptionError,
            "norm: no such order\n  got:      3\n  expected: 1, 2 or math.inf",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_reduced_is_refused(run, kind, text):
    with pytest.raises(kind) as error:
        run()
    assert str(error.value) == text


def test_axes_are_integers_whatever_was_reduced_before():
    x = cr.Tensor(np.ones((2, 3)))
    assert cr.sum(x, 0).shape == (3,)
    with pytest.raises(ShapeError, match="sum: takes integers"):
        cr.sum(x, 0.0)
    assert cr.sum(x, np.array([0, 1])).item() == 6
    assert cr.sum(x, [1]).tolist() == [3, 3]
