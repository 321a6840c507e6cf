"""Indexing beside NumPy, and what flows back through it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import (
    array_shapes,
    basic_indices,
    integer_array_indices,
)

import chainrule as cr
from chainrule.core.size import Batch, Size
from chainrule.errors import DtypeError, IndexingError, OptionError, ShapeError
from chainrule.ops.indexing import _sliced

SHAPES = array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.float64).reshape(shape)


def check(x, key):
    """Values as NumPy's; the gradient counts how often each element was read."""
    t = cr.Tensor(x, requires_grad=True)
    y = t[key]
    np.testing.assert_array_equal(y.data, x[key])
    y.backward(np.ones(y.shape))
    reads = np.zeros(x.shape)
    np.add.at(reads, key, 1)
    np.testing.assert_array_equal(t.grad.data, reads)


@given(SHAPES, st.data())
def test_slices_integers_and_new_axes(shape, data):
    check(numbered(shape), data.draw(basic_indices(shape, allow_newaxis=True)))


@given(SHAPES, st.data())
def test_integer_arrays(shape, data):
    check(numbered(shape), data.draw(integer_array_indices(shape)))


@given(SHAPES, st.data())
def test_arrays_among_integers_slices_and_new_axes(shape, data):
    ends = data.draw(array_shapes(min_dims=0, max_dims=2, max_side=3))
    parts = []
    for size in shape:
        place = st.integers(-size, size - 1)
        kind = data.draw(st.sampled_from(["array", "integer", "slice", "new"]))
        if kind == "new":
            parts.append(None)
        if kind == "array":
            count = int(np.prod(ends))
            flat = data.draw(st.lists(place, min_size=count, max_size=count))
            parts.append(np.array(flat, np.int64).reshape(ends))
        elif kind == "integer":
            parts.append(data.draw(place))
        else:
            parts.append(data.draw(st.slices(size)))
    check(numbered(shape), tuple(parts[: data.draw(st.integers(0, len(parts)))]))


BOUNDS = st.none() | st.integers(-6, 6)


@given(st.integers(0, 9), BOUNDS, BOUNDS, st.sampled_from([None, 1, 2, -1]))
def test_a_slice_of_a_batch_has_its_length_wherever_the_guards_hold(
    n, start, stop, step
):
    batch = Batch(n)
    length = _sliced(Size(batch), start, stop, step)
    batch.is_open = False
    served = [m for m in range(12) if all(g.holds(m) for g in batch.guards.values())]
    assert n in served
    for m in served:
        found = length.at(m) if isinstance(length, Size) else length
        assert found == len(range(m)[start:stop:step])


@given(SHAPES, st.data())
def test_masks(shape, data):
    ndim = data.draw(st.integers(1, len(shape)))
    flat = data.draw(
        st.lists(
            st.booleans(),
            min_size=int(np.prod(shape[:ndim])),
            max_size=int(np.prod(shape[:ndim])),
        )
    )
    check(numbered(shape), np.array(flat, bool).reshape(shape[:ndim]))


@pytest.mark.parametrize(
    "key",
    [
        (slice(None), [0, 2], 1),
        ([0, 1], slice(None), [1, 1]),
        (..., [0, -1]),
        (np.array([[0], [1]]), [0, 2]),
        ([True, False], 1),
        (np.int64(1), None, slice(None, None, -1)),
        (slice(np.int64(0), 2), ..., 0),
        ([],),
        (),
        ...,
    ],
)
def test_mixtures(key):
    check(numbered((2, 3, 4)), key)


def test_tensors_can_be_indices():
    x = cr.Tensor(numbered((3, 2)))
    assert x[cr.Tensor([2, 0])].tolist() == [[4.0, 5.0], [0.0, 1.0]]
    assert x[x > 3].tolist() == [4.0, 5.0]
    assert x[cr.Tensor(1), 0].item() == 2.0
    assert x[cr.Tensor(1) :].shape == (2, 2)


def test_iteration_ends():
    assert [row.tolist() for row in cr.Tensor([[1.0], [2.0]])] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (
            3,
            "index: 3 is outside axis 0\n"
            "  got:      index 3 on float64[2, 3]\n"
            "  expected: -2 to 1",
        ),
        (
            (0, [0, -4]),
            "index: -4 is outside axis 1\n"
            "  got:      index -4 on float64[2, 3]\n"
            "  expected: -3 to 2",
        ),
        (
            (0, 0, 0),
            "index: 3 indices for 2 axes\n"
            "  got:      float64[2, 3][0, 0, 0]\n"
            "  expected: at most 2 indices and one ...",
        ),
        (
            (..., ...),
            "index: 0 indices for 2 axes\n"
            "  got:      float64[2, 3][..., ...]\n"
            "  expected: at most 2 indices and one ...",
        ),
        (
            1.5,
            "index: not an index\n"
            "  got:      float32[]\n"
            "  expected: integers, slices, None, ..., integer arrays or masks\n"
            "  try:      x.astype('int64')",
        ),
        (
            "a",
            "index: not an index\n"
            "  got:      str\n"
            "  expected: integers, slices, None, ..., integer arrays or masks\n"
            "  try:      x.astype('int64')",
        ),
        (
            [[0], [0, 1]],
            "index: not an index\n"
            "  got:      list\n"
            "  expected: integers, slices, None, ..., integer arrays or masks\n"
            "  try:      x.astype('int64')",
        ),
        (
            slice(0.5, None),
            "index: a slice bound is not an integer\n"
            "  got:      float64[2, 3][0.5:]\n"
            "  expected: integers, or nothing, around the colon",
        ),
        (
            slice(None, None, 0),
            "index: a slice with step 0\n"
            "  got:      float64[2, 3][::0]\n"
            "  expected: a step other than 0",
        ),
        (
            np.ones(3, bool),
            "index: the mask has another shape than what it selects from\n"
            "  got:      bool[3] on float64[2, 3], axis 0\n"
            "  expected: bool[2]",
        ),
        (
            True,
            "index: the mask has another shape than what it selects from\n"
            "  got:      bool[] on float64[2, 3], axis 0\n"
            "  expected: bool[2]",
        ),
    ],
)
def test_what_is_no_index_is_refused(key, text):
    with pytest.raises(IndexingError) as error:
        cr.Tensor(numbered((2, 3)))[key]
    assert str(error.value) == text


def test_index_arrays_that_do_not_broadcast_are_refused():
    with pytest.raises(ShapeError, match="index arrays do not broadcast"):
        cr.Tensor(numbered((3, 3)))[[0, 1], [0, 1, 2]]


@given(SHAPES, st.data())
def test_scatter_add_is_the_transpose_of_take(shape, data):
    x = cr.Tensor(numbered(shape))
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    size = x.shape[axis]
    count = data.draw(st.integers(0, 5))
    indices = np.random.default_rng(0).integers(-size, size, count)
    taken = cr.take(x, indices, axis)
    np.testing.assert_array_equal(taken.data, np.take(x.data, indices, axis))
    y = cr.Tensor(np.random.default_rng(1).normal(size=taken.shape))
    back = cr.scatter_add(y, indices, size, axis)
    assert back.shape == x.shape
    inner = (taken * y).sum().item()
    assert (x * back).sum().item() == pytest.approx(inner, abs=1e-9)


def test_scatter_add_refuses_places_outside_its_size():
    with pytest.raises(IndexingError, match="index: 3 is outside axis 0"):
        cr.scatter_add(cr.Tensor([1.0, 2.0]), [0, 3], 3)


def test_take_along_axis_beside_numpy():
    x = np.random.default_rng(0).normal(size=(3, 4))
    order = np.argsort(x, axis=1)
    sorted_rows = cr.take_along_axis(x, order, 1)
    np.testing.assert_array_equal(sorted_rows.data, np.take_along_axis(x, order, 1))
    with pytest.raises(ShapeError, match="take_along_axis: numbers of axes differ"):
        cr.take_along_axis(x, [0, 1], 1)


def test_one_hot_rows():
    y = cr.one_hot([[2, 0]], 3)
    assert y.dtype == np.float32
    assert y.tolist() == [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    assert cr.one_hot(np.array([], np.int64), 3).shape == (0, 3)


@pytest.mark.parametrize(
    ("labels", "count", "kind", "text"),
    [
        (
            [0, 3], 3, IndexingError,
            "one_hot: a label is out of range\n"
            "  got:      labels from 0 to 3\n"
            "  expected: 0 to 2\n"
            "  try:      count classes from 0, or raise num_classes",
        ),
        (
            [0.0], 3, DtypeError,
            "one_hot: labels are not integers\n"
            "  got:      float32[1]\n"
            "  expected: int64",
        ),
        (
            [0], 0, OptionError,
            "one_hot: no classes\n  got:      0\n  expected: at least 1",
        ),
    ],
)  # fmt: skip
def test_labels_that_are_no_classes_are_refused(labels, count, kind, text):
    with pytest.raises(kind) as error:
        cr.one_hot(labels, count)
    assert str(error.value) == text
