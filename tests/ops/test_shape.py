"""Views, joins and padding beside NumPy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.errors import OptionError, ShapeError

SHAPES = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


def numbered(shape):
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


@given(mutually_broadcastable_shapes(num_shapes=1, max_dims=3, max_side=3), st.data())
def test_sum_to_undoes_broadcast_to(shapes, data):
    (narrow,) = shapes.input_shapes
    extra = data.draw(st.lists(st.integers(0, 3), max_size=2))
    wide = (*extra, *(data.draw(st.integers(0, 3)) if n == 1 else n for n in narrow))
    x = numbered(narrow)
    stretched = cr.broadcast_to(x, wide)
    np.testing.assert_array_equal(stretched.data, np.broadcast_to(x, wide))
    back = cr.sum_to(stretched, narrow)
    copies = math.prod(wide) // max(x.size, 1) if math.prod(wide) else 0
    np.testing.assert_array_equal(back.data, x * copies)


@given(SHAPES, st.data())
def test_reshape_keeps_the_elements_in_order(shape, data):
    x = numbered(shape)
    sizes = data.draw(st.permutations(shape))
    np.testing.assert_array_equal(cr.reshape(x, sizes).data, x.reshape(sizes))
    if x.size and sizes:
        sizes[data.draw(st.integers(0, len(sizes) - 1))] = -1
        np.testing.assert_array_equal(cr.reshape(x, sizes).data, x.reshape(sizes))


@given(SHAPES, st.data())
def test_transpose_and_flip_beside_numpy(shape, data):
    x = numbered(shape)
    order = data.draw(st.permutations(range(x.ndim)))
    np.testing.assert_array_equal(cr.transpose(x, order).data, x.transpose(order))
    axes = tuple(order[: data.draw(st.integers(0, x.ndim))])
    np.testing.assert_array_equal(cr.flip(x, axes).data, np.flip(x, axes))
    np.testing.assert_array_equal(cr.transpose(x).data, x.T)


@given(array_shapes(max_dims=3, min_side=0, max_side=4), st.data(), st.integers(-9, 9))
def test_roll_beside_numpy(shape, data, shift):
    x = numbered(shape)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    np.testing.assert_array_equal(cr.roll(x, shift, axis).data, np.roll(x, shift, axis))


@given(array_shapes(max_dims=3, max_side=3), st.data())
def test_split_concatenate_and_stack_are_inverse(shape, data):
    x = numbered(shape)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    first = data.draw(st.integers(0, x.shape[axis]))
    parts = cr.split(x, [first, x.shape[axis] - first], axis)
    assert parts[0].shape[axis] == first
    np.testing.assert_array_equal(cr.concatenate(parts, axis).data, x)
    rows = [cr.take(x, i, axis) for i in range(x.shape[axis])]
    np.testing.assert_array_equal(cr.stack(rows, axis).data, x)


@given(SHAPES, st.lists(st.integers(0, 3), max_size=5))
def test_tile_beside_numpy(shape, repeats):
    x = numbered(shape)
    np.testing.assert_array_equal(cr.tile(x, repeats).data, np.tile(x, repeats))


@given(array_shapes(max_dims=3, min_side=0, max_side=3), st.data(), st.integers(0, 3))
def test_repeat_and_pad_beside_numpy(shape, data, count):
    x = numbered(shape)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    np.testing.assert_array_equal(
        cr.repeat(x, count, axis).data, np.repeat(x, count, axis)
    )
    widths = [
        (data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))) for _ in shape
    ]
    np.testing.assert_array_equal(
        cr.pad(x, widths, 7.0).data, np.pad(x, widths, constant_values=7.0)
    )


def test_squeeze_expand_dims_swap_axes_and_flatten():
    x = cr.Tensor(numbered((2, 1, 3)))
    assert cr.squeeze(x).shape == (2, 3)
    assert cr.squeeze(x, 1).shape == (2, 3)
    assert cr.expand_dims(x, -1).shape == (2, 1, 3, 1)
    assert cr.expand_dims(x, 0).shape == (1, 2, 1, 3)
    assert cr.swap_axes(x, 0, -1).shape == (3, 1, 2)
    assert cr.flatten(x).shape == (2, 3)
    assert cr.flatten(x, start=0).shape == (6,)
    assert cr.reshape(x, -1).shape == cr.reshape(x, np.int64(6)).shape == (6,)


def test_a_border_with_a_fraction_makes_integers_float32():
    assert cr.pad(cr.Tensor([1, 2]), 1).dtype == np.int64
    assert cr.pad(cr.Tensor([1, 2]), 1, 0.5).tolist() == [0.5, 1.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (
            lambda x: cr.reshape(x, (4, 2)),
            "reshape: 6 elements do not fill shape (4, 2)\n"
            "  got:      float32[2, 3]\n"
            "  expected: 8 elements",
        ),
        (
            lambda x: cr.reshape(x, (-1, -1)),
            "reshape: 6 elements do not fill shape (-1, -1)\n"
            "  got:      float32[2, 3]\n"
            "  expected: at most one size of -1",
        ),
        (
            lambda x: cr.reshape(x, (2.0, 3)),
            "reshape: takes integers\n"
            "  got:      (2.0, 3)\n"
            "  expected: an integer, or several",
        ),
        (
            lambda x: cr.transpose(x, (0, 0)),
            "transpose: axes do not name every axis once\n"
            "  got:      axes (0, 0) for float32[2, 3]\n"
            "  expected: an order of (0, 1)",
        ),
        (
            lambda x: cr.concatenate([x, cr.Tensor([[1.0]])]),
            "concatenate: sizes differ beside axis 0\n"
            "  got:      float32[2, 3], float32[1, 1]\n"
            "  expected: equal sizes on every other axis",
        ),
        (
            lambda x: cr.concatenate([]),
            "concatenate: nothing to join\n  got:      []\n  expected: tensors",
        ),
        (
            lambda x: cr.split(x, [1, 1], 1),
            "split: sizes do not add up\n"
            "  got:      [1, 1] for axis 1 of float32[2, 3]\n"
            "  expected: sizes of 0 or more that sum to 3",
        ),
        (
            lambda x: cr.squeeze(x, 0),
            "squeeze: a named axis is longer than 1\n"
            "  got:      float32[2, 3], axis=0\n"
            "  expected: axes of size 1",
        ),
        (
            lambda x: cr.broadcast_to(x, (2, 4)),
            "broadcast_to: sizes 3 and 4 meet on axis -1\n"
            "  got:      float32[2, 3] with float32[2, 4]\n"
            "  expected: equal sizes, or 1, on every axis counted from the right\n"
            "  try:      reshape one operand, or insert an axis with x[:, None]",
        ),
        (
            lambda x: cr.pad(x, [(1, -1), (0, 0)]),
            "pad: widths do not fit the tensor\n"
            "  got:      ((1, -1), (0, 0)) for float32[2, 3]\n"
            "  expected: 2 pairs (before, after) of numbers ≥ 0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(run, text):
    with pytest.raises(ShapeError) as error:
        run(cr.Tensor(numbered((2, 3))))
    assert str(error.value) == text


@pytest.mark.parametrize(
    "run",
    [
        lambda x: cr.broadcast_to(x, (2, -3)),
        lambda x: cr.broadcast_to(cr.Tensor(1.0), (-1,)),
        lambda x: cr.repeat(x, -1, 0),
        lambda x: cr.tile(x, -1),
        lambda x: cr.split(x, [4, -1], axis=1),
        lambda x: cr.pad(x, (1, 1)),
        lambda x: cr.pad(x, 1.5),
        lambda x: cr.roll(x, 1.5, 0),
        lambda x: cr.transpose(x, [0.5, 1]),
        lambda x: cr.swap_axes(x, 0.0, 1.0),
        lambda x: cr.one_hot([0, 1], 2.5),
    ],
)
def test_sizes_that_are_none_are_refused(run):
    x = cr.Tensor(numbered((2, 3)))
    cr.swap_axes(x, 0, 1)  # 0.0 must not be taken for what is known of 0
    with pytest.raises(ShapeError):
        run(x)


def test_a_border_that_the_dtype_cannot_hold_makes_floats():
    bytes_ = cr.Tensor(np.array([7], np.uint8))
    assert cr.pad(bytes_, np.int64(1), 255).tolist() == [255, 7, 255]
    assert cr.pad(bytes_, 1, 255).dtype == np.uint8
    for value in (-1, 256, 0.5):
        padded = cr.pad(bytes_, 1, value)
        assert padded.dtype == np.float32
        assert padded.tolist() == [value, 7, value]
    assert cr.pad(cr.Tensor([True]), 1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("mode", "theirs"),
    [("reflect", "reflect"), ("replicate", "edge"), ("circular", "wrap")],
)
@pytest.mark.parametrize("seed", range(20))
def test_a_border_from_the_image_itself_beside_numpy(seed, mode, theirs):
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(2, 6, 3).tolist())
    widths = [tuple(rng.integers(0, n, 2).tolist()) for n in shape]
    x = cr.Tensor(rng.normal(size=shape), requires_grad=True)
    y = cr.pad(x, widths, mode=mode)
    np.testing.assert_array_equal(y.data, np.pad(x.data, widths, mode=theirs))
    dy = rng.normal(size=y.shape)
    (dx,) = gradients(y, [x], [dy])
    # It copies elements: Σ dx·x = Σ dy·y.
    assert (dx.data * x.data).sum() == pytest.approx((dy * y.data).sum())


def test_a_whole_circle_and_a_long_replica_are_borders_and_a_whole_mirror_is_not():
    x = cr.Tensor([1, 2, 3])
    assert cr.pad(x, [(3, 3)], mode="circular").tolist() == [1, 2, 3] * 3
    assert cr.pad(x, [(0, 5)], mode="replicate").tolist() == [1, 2, 3, 3, 3, 3, 3, 3]
    for mode, width, longest in (("reflect", 3, 2), ("circular", 4, 3)):
        with pytest.raises(ShapeError) as error:
            cr.pad(x, [(width, 0)], mode=mode)
        assert str(error.value) == (
            f"pad: nothing is left for a {mode} border\n"
            f"  got:      ({width}, 0) on axis 0 of int64[3]\n"
            f"  expected: at most {longest} on each side"
        )
    with pytest.raises(ShapeError, match="nothing is left for a replicate border"):
        cr.pad(x[:0], 1, mode="replicate")


def test_a_border_of_an_unknown_kind_is_refused():
    with pytest.raises(OptionError, match="unknown mode 'mirror'"):
        cr.pad(cr.Tensor([1, 2, 3]), 1, mode="mirror")
    with pytest.raises(ShapeError, match="widths do not fit the tensor"):
        cr.pad(cr.Tensor([1, 2, 3]), [(1, -1)], mode="reflect")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_native_border_agrees_for_any_batch(mode, agreement):
    def f(x):
        return cr.pad(x, [(0, 0), (1, 2), (3, 0)], mode=mode)

    rng = np.random.default_rng(0)
    compiled = agreement.check(f, [rng.normal(size=(2, 4, 5))])
    agreement.check_again(compiled, f, [rng.normal(size=(7, 4, 5))])
