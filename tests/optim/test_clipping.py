"""Limits on gradients."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import OptionError
from chainrule.optim import clip_by_norm, clip_by_value, global_norm


def with_gradients(*gradients, dtype="float32"):
    made = []
    for g in gradients:
        p = cr.Parameter(np.zeros(np.shape(g)), dtype)
        p.grad = cr.Tensor(g, dtype)
        made.append(p)
    return made


def test_the_global_norm_is_that_of_all_gradients_in_one_vector():
    ps = [*with_gradients([3.0, 0.0], [[4.0], [12.0]]), cr.Parameter([9.0])]
    assert global_norm(ps).item() == 13
    assert global_norm([]).item() == 0


def test_the_global_norm_is_finite_exactly_when_every_gradient_is():
    assert global_norm(with_gradients([3e38, -3e38])).item() > 4e38
    for bad in (np.inf, -np.inf, np.nan):
        assert not np.isfinite(global_norm(with_gradients([1.0], [bad, 2.0])).item())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_clipping_by_norm_keeps_the_direction(dtype):
    ps = with_gradients([3.0, 0.0], [[4.0], [12.0]], dtype=dtype)
    assert clip_by_norm(ps, 1.0).item() == 13
    assert global_norm(ps).item() == pytest.approx(1, rel=1e-6)
    assert ps[0].grad.dtype == dtype
    np.testing.assert_allclose(ps[1].grad.data, [[4 / 13], [12 / 13]], rtol=1e-6)


def test_short_gradients_keep_their_bits():
    ps = with_gradients([0.1, 0.7])
    before = ps[0].grad.numpy()
    clip_by_norm(ps, 1.0)
    np.testing.assert_array_equal(ps[0].grad.data, before)
    zero = with_gradients([0.0])
    clip_by_norm(zero, 1.0)
    assert zero[0].grad.tolist() == [0.0]


def test_clipping_by_value_limits_every_entry():
    ps = [*with_gradients([-3.0, 0.5, 2.0]), cr.Parameter([1.0])]
    clip_by_value(ps, 1.0)
    assert ps[0].grad.tolist() == [-1.0, 0.5, 1.0]
    assert ps[1].grad is None


@pytest.mark.parametrize("clip", [clip_by_norm, clip_by_value])
def test_a_limit_that_is_not_positive_is_refused(clip):
    for limit in (0.0, -1.0, float("nan")):
        with pytest.raises(OptionError, match="the limit is out of range"):
            clip([], limit)
