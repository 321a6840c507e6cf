"""Shapes and dtypes: how operands combine and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from chainrule import Tensor
from chainrule.core.spec import (
    BOOL,
    FLOAT32,
    FLOAT64,
    INT64,
    Spec,
    arithmetic_dtype,
    as_dtype,
    broadcast_shapes,
    integers,
    normalize_axes,
)
from chainrule.errors import DtypeError, ShapeError

INT32 = np.dtype("int32")


def test_a_spec_prints_as_dtype_and_shape():
    assert str(Spec((64, 784), FLOAT32)) == "float32[64, 784]"
    assert str(Spec((), BOOL)) == "bool[]"


def test_a_spec_knows_its_sizes():
    spec = Spec.of(np.zeros((2, 3, 4), np.float64))
    assert (spec.ndim, spec.size, spec.size_bytes) == (3, 24, 192)
    assert Spec((), FLOAT32).size == 1


@pytest.mark.parametrize(
    ("operands", "result"),
    [
        ([FLOAT32, FLOAT32], FLOAT32),
        ([FLOAT32, FLOAT64], FLOAT64),
        ([INT64, FLOAT32], FLOAT32),
        ([BOOL, FLOAT64, INT64], FLOAT64),
        ([BOOL, BOOL], INT64),
        ([BOOL, INT32], INT32),
        ([INT32, INT64], INT64),
    ],
)
def test_the_dtype_of_arithmetic(operands, result):
    assert arithmetic_dtype("add", *operands) == result
    assert arithmetic_dtype("add", *reversed(operands)) == result


def test_arithmetic_on_bytes_is_refused():
    with pytest.raises(DtypeError) as error:
        arithmetic_dtype("add", np.dtype("uint8"), FLOAT32)
    assert str(error.value) == (
        "add: arithmetic on uint8 would wrap around\n"
        "  got:      uint8, float32\n"
        "  expected: float32, float64, int32 or int64\n"
        "  try:      convert first: x.astype('float32') (images: divide by 255 then)"
    )


@pytest.mark.parametrize("dtype", [complex, object, "U3", "float16", "no such type"])
def test_a_dtype_that_cannot_be_stored_is_refused(dtype):
    with pytest.raises(DtypeError, match="cannot hold elements of type"):
        as_dtype(dtype)


@given(mutually_broadcastable_shapes(num_shapes=3, max_dims=4))
def test_shapes_broadcast_as_in_numpy(shapes):
    specs = [Spec(s, FLOAT32) for s in shapes.input_shapes]
    assert broadcast_shapes("add", *specs) == shapes.result_shape


def test_shapes_that_do_not_broadcast_are_named_with_the_axis():
    with pytest.raises(ShapeError) as error:
        broadcast_shapes("add", Spec((64, 10), FLOAT32), Spec((64,), FLOAT32))
    assert str(error.value) == (
        "add: sizes 10 and 64 meet on axis -1\n"
        "  got:      float32[64, 10] with float32[64]\n"
        "  expected: equal sizes, or 1, on every axis counted from the right\n"
        "  try:      reshape one operand, or insert an axis with x[:, None]"
    )


@given(st.data(), st.integers(1, 5))
def test_axes_are_counted_from_either_end(data, ndim):
    axes = data.draw(st.sets(st.integers(0, ndim - 1)))
    signs = data.draw(st.lists(st.booleans(), min_size=len(axes), max_size=len(axes)))
    given_axes = [a - ndim if s else a for a, s in zip(axes, signs, strict=True)]
    assert normalize_axes("sum", given_axes, ndim) == tuple(sorted(axes))


def test_axes_may_be_one_integer_numpy_integers_or_all():
    assert normalize_axes("sum", -1, 3) == (2,)
    assert normalize_axes("sum", np.int64(1), 3) == (1,)
    assert normalize_axes("sum", np.array([0, 1]), 3) == (0, 1)
    assert normalize_axes("sum", None, 2) == (0, 1)
    assert normalize_axes("sum", (), 2) == ()


@pytest.mark.parametrize("axis", [3, -4, (0, 0), (0, -3), [1, 7]])
def test_an_axis_that_does_not_exist_or_comes_twice_is_refused(axis):
    with pytest.raises(ShapeError) as error:
        normalize_axes("sum", axis, 3)
    shown = tuple(axis) if isinstance(axis, (list, tuple)) else axis
    assert str(error.value) == (
        "sum: no such axis, or one named twice\n"
        f"  got:      axis={shown} on a tensor of 3 axes\n"
        "  expected: distinct axes from -3 to 2"
    )


@pytest.mark.parametrize("given_value", [1.0, "1", [0.5], None, object()])
def test_what_is_no_integer_is_refused(given_value):
    with pytest.raises(ShapeError, match="takes integers"):
        integers("reshape", given_value)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i4", "<i8"])
def test_arrays_of_another_byte_order_are_read_in_the_machines_own(dtype):
    t = Tensor(np.array([1, 2], dtype))
    assert t.dtype.isnative
    assert t.dtype == np.dtype(dtype).newbyteorder("=")
    assert t.tolist() == [1, 2]
