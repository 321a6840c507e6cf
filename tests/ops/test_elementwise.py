"""Arithmetic, choice and comparison: dtypes, ties, borders, numbers beside tensors."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, mutually_broadcastable_shapes

import chainrule as cr
from chainrule.errors import DtypeError, OptionError, ShapeError

NUMBERS = st.floats(-8, 8, width=32)


@given(st.data(), mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3))
def test_arithmetic_broadcasts_as_numpy_does_and_gradients_are_summed_back(
    data, shapes
):
    a, b = (
        data.draw(arrays(np.float64, shape, elements=NUMBERS))
        for shape in shapes.input_shapes
    )
    x, y = cr.Tensor(a, requires_grad=True), cr.Tensor(b, requires_grad=True)
    z = x * y + x - y
    np.testing.assert_array_equal(z.data, a * b + a - b)
    assert z.shape == shapes.result_shape
    z.backward(np.ones(z.shape))
    ones = np.ones(z.shape)
    for t, slope in ((x, b + 1), (y, a - 1)):
        expected = cr.sum_to(cr.Tensor(slope * ones), t.shape)
        np.testing.assert_allclose(t.grad.data, expected.data, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("number", [2, 0.1, True, np.float64(0.1), np.int64(3)])
def test_a_number_takes_the_dtype_of_the_tensor_it_meets(number, dtype):
    x = cr.Tensor([1.0, 2.0], dtype)
    for y in (x + number, number - x, x * number, number / x, x**number, number**x,
              cr.maximum(x, number), cr.where(x > 1, number, x)):  # fmt: skip
        assert y.dtype == dtype


def test_integers_and_fractions_make_float32():
    x = cr.Tensor([1, 2])
    assert (x + 1).dtype == np.int64
    assert (x + 0.5).dtype == np.float32
    assert (x / 2).dtype == np.float32
    assert cr.exp(x).dtype == np.float32
    assert (x**2).dtype == np.int64
    assert (x**-1).tolist() == [1.0, 0.5]
    assert (x**0.5).dtype == np.float32


def test_an_integer_too_large_for_bytes_is_compared_as_int64():
    image = cr.Tensor(np.array([0, 255], np.uint8))
    assert (image < 300).tolist() == [True, True]
    assert (image == -1).tolist() == [False, False]
    with pytest.raises(DtypeError, match="arithmetic on uint8 would wrap around"):
        image * 300


def test_an_integer_beyond_64_bits_is_refused():
    with pytest.raises(DtypeError) as error:
        cr.Tensor([1]) + 2**70
    assert str(error.value) == (
        "tensor: the number does not fit 64 bits\n"
        "  got:      1180591620717411303424\n"
        "  expected: an integer from -2⁶³ to 2⁶³ - 1\n"
        "  try:      write it as a float"
    )


@pytest.mark.parametrize("f", [cr.maximum, cr.minimum])
def test_a_tie_splits_the_gradient(f):
    x = cr.Tensor([1.0, 2.0], requires_grad=True)
    y = cr.Tensor([1.0, 2.0], requires_grad=True)
    f(x, y).backward(np.array([2.0, 4.0]))
    assert x.grad.tolist() == y.grad.tolist() == [1.0, 2.0]


def test_clip_passes_the_gradient_inside_and_on_its_borders():
    x = cr.Tensor([-2.0, -1.0, 0.0, 1.0, 2.0], requires_grad=True)
    y = cr.clip(x, -1, 1)
    y.backward(np.ones(5))
    assert y.tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


def test_clip_of_integers():
    x = cr.Tensor([-3, 0, 3])
    assert cr.clip(x, -1, 1).dtype == np.int64
    assert cr.clip(x, high=np.int64(2)).tolist() == [-3, 0, 2]
    assert cr.clip(x, 0.5).tolist() == [0.5, 0.5, 3.0]


@pytest.mark.parametrize(
    ("borders", "text"),
    [
        ((None, None), "clip: no border given\n  got:      None, None\n"
         "  expected: a border"),
        ((2, 1), "clip: borders crossed\n  got:      [2, 1]\n  expected: low ≤ high"),
        ((math.nan, 1), "clip: borders crossed\n  got:      [nan, 1]\n"
         "  expected: low ≤ high"),
    ],
)  # fmt: skip
def test_borders_of_clip_that_make_no_sense_are_refused(borders, text):
    with pytest.raises(OptionError) as error:
        cr.clip(cr.Tensor([1.0]), *borders)
    assert str(error.value) == text


def test_powers_at_zero_have_their_one_sided_limits():
    base = cr.Tensor([0.0, 0.0, 0.0, 2.0], requires_grad=True)
    exponent = cr.Tensor([0.0, 1.0, 2.0, 0.0], requires_grad=True)
    (base**exponent).backward(np.ones(4))
    assert base.grad.tolist() == [0.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(exponent.grad.data, [0.0, 0.0, 0.0, math.log(2)])


def test_second_derivatives_of_powers_at_zero_are_finite():
    base = cr.Tensor([0.0, 0.0], "float64", requires_grad=True)
    exponent = cr.Tensor([0.0, 3.0], "float64")
    (base**exponent).sum().backward(create_graph=True)
    g, base.grad = base.grad, None
    g.sum().backward()
    assert base.grad.tolist() == [0.0, 0.0]


def test_where_takes_numbers_as_conditions_and_keeps_bytes():
    image = cr.Tensor(np.array([7, 8], np.uint8))
    assert cr.where(cr.Tensor([0, 2]), image, image).dtype == np.uint8
    assert cr.where(cr.Tensor([0, 2]), 1.0, 2.0).tolist() == [2.0, 1.0]


def test_a_cast_between_floats_carries_the_gradient():
    x = cr.Tensor([1.0], "float64", requires_grad=True)
    y = x.astype("float32")
    (y * 3).backward(np.ones(1))
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float64)
    assert x.grad.tolist() == [3.0]


def test_a_cast_that_overflows_comes_without_a_warning():
    x = cr.Tensor([1e300, math.nan], "float64")
    assert np.isposinf(x.astype("float32").data[0])
    assert x.astype("int64").dtype == np.int64


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ShapeError) as error:
        cr.Tensor(np.ones((64, 10))) + cr.Tensor(np.ones(64))
    assert str(error.value) == (
        "add: sizes 10 and 64 meet on axis -1\n"
        "  got:      float64[64, 10] with float64[64]\n"
        "  expected: equal sizes, or 1, on every axis counted from the right\n"
        "  try:      reshape one operand, or insert an axis with x[:, None]"
    )


def test_an_unknown_form_of_gelu_is_refused():
    with pytest.raises(OptionError) as error:
        cr.gelu(cr.Tensor(1.0), "tahn")
    assert str(error.value) == (
        "unknown GELU form 'tahn'\n"
        "  got:      'tahn'\n"
        "  expected: one of none, sigmoid, tanh\n"
        "  try:      did you mean 'tanh'?"
    )


def test_logic_combines_bools_and_refuses_numbers():
    x = cr.Tensor([-1.0, 0.5, 2.0])
    assert ((x > 0) & ~(x > 1)).tolist() == [False, True, False]
    assert ((x < 0) | (x > 1)).tolist() == [True, False, True]
    assert (np.array([True, True, False]) & (x > 0)).tolist() == [False, True, False]
    assert (True & (x > 0)).tolist() == [False, True, True]
    assert (False | (x > 0)).tolist() == [False, True, True]
    with pytest.raises(DtypeError) as caught:
        (x > 0) & 1
    assert str(caught.value) == (
        "logical_and: combines yes and no, not numbers\n"
        "  got:      bool, int64\n"
        "  expected: bool\n"
        "  try:      compare first: x > 0, or x.astype('bool')"
    )
    with pytest.raises(DtypeError, match="logical_not"):
        ~cr.Tensor([1, 0])
