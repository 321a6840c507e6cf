"""Matrix products beside NumPy, and dropout masks."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.backward import gradients
from chainrule.core.rng import random_bits, stream_key
from chainrule.errors import DtypeError, OptionError, ShapeError

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((4, 1, 2, 3), (5, 3, 1)),
    ((2, 0), (0, 3)),
    ((5, 0, 3), (3, 2)),
    ((5, 2, 0), (0, 3)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_products_of_any_number_of_axes_beside_numpy(left, right):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=left), rng.normal(size=right)
    x, y = cr.Tensor(a, requires_grad=True), cr.Tensor(b, requires_grad=True)
    z = x @ y
    np.testing.assert_allclose(z.data, a @ b, atol=1e-14)
    dz = rng.normal(size=z.shape)
    # z is linear in each operand: <dz, (a + u) @ b> - <dz, a @ b> = <dx, u>.
    u, v = rng.normal(size=left), rng.normal(size=right)
    dx, dy = gradients(z, [x, y], [dz])
    assert (dx.shape, dy.shape) == (left, right)
    assert (dx.data * u).sum() == pytest.approx((dz * (u @ b)).sum())
    assert (dy.data * v).sum() == pytest.approx((dz * (a @ v)).sum())


def test_integers_multiply_as_integers():
    assert (cr.Tensor([[1, 2]]) @ cr.Tensor([[3], [4]])).tolist() == [[11]]


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        (
            (64, 784),
            (100, 10),
            "matmul: inner sizes differ\n"
            "  got:      float64[64, 784] @ float64[100, 10]\n"
            "  expected: (n, k) @ (k, m)\n"
            "  try:      make the layer's in_features 784, or flatten images to "
            "(batch, features)",
        ),
        (
            (),
            (2, 2),
            "matmul: an operand is a scalar\n"
            "  got:      float64[] @ float64[2, 2]\n"
            "  expected: (n, k) @ (k, m)\n"
            "  try:      multiply by a scalar with *",
        ),
        (
            (2, 3, 4),
            (3, 4, 5),
            "matmul: sizes 2 and 3 meet on axis -1\n"
            "  got:      float64[2] with float64[3]\n"
            "  expected: equal sizes, or 1, on every axis counted from the right\n"
            "  try:      reshape one operand, or insert an axis with x[:, None]",
        ),
    ],
)
def test_operands_that_do_not_fit_are_named(left, right, text):
    with pytest.raises(ShapeError) as error:
        cr.Tensor(np.ones(left)) @ cr.Tensor(np.ones(right))
    assert str(error.value) == text


KEY = np.array(stream_key(0, "dropout"), np.uint32)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999999])
def test_a_mask_drops_its_share_and_rescales_the_rest(rate, dtype):
    like = cr.Tensor(np.ones((200, 300), dtype))
    mask = cr.dropout_mask(like, KEY, 3, rate)
    assert mask.spec == like.spec
    share = (mask.data == 0).mean()
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / like.size) + 1e-12
    np.testing.assert_allclose(mask.data[mask.data > 0], 1 / (1 - rate), rtol=1e-6)


def test_a_mask_is_a_function_of_key_and_step_element_by_element():
    like = np.ones((3, 5), np.float32)
    mask = cr.dropout_mask(like, KEY, 3, 0.3)
    words = random_bits(tuple(KEY.tolist()), 3, 15).reshape(3, 5)
    np.testing.assert_array_equal(mask.data > 0, words >= round(0.3 * 2**32))
    again, other = (cr.dropout_mask(like, KEY, step, 0.3) for step in (3, 4))
    assert again.tolist() == mask.tolist() != other.tolist()


def test_a_rate_just_below_one_is_taken():
    mask = cr.dropout_mask(np.ones(10, np.float32), KEY, 0, 1 - 1e-16)
    assert mask.shape == (10,)


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(OptionError) as error:
        cr.dropout_mask(np.ones(3, np.float32), KEY, 0, rate)
    assert str(error.value) == (
        f"dropout: rate out of range\n  got:      {rate}\n  expected: 0 ≤ rate < 1"
    )


def test_integers_have_no_dropout_mask():
    with pytest.raises(DtypeError, match="dropout_mask: not a float"):
        cr.dropout_mask(np.ones(3, np.int64), KEY, 0, 0.5)
