"""The moving average of the weights."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import CheckpointError, OptionError
from chainrule.optim import MovingAverage


def follow(average, w, values):
    for value in values:
        w.data = np.asarray(value)
        average.update()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_the_weighted_mean_of_all_weights_seen(dtype):
    values = np.random.default_rng(0).normal(size=(20, 3))
    w = cr.Parameter(np.full(3, 100.0), dtype)
    average = MovingAverage([("w", w)], decay=0.8)
    follow(average, w, values)
    weights = 0.8 ** np.arange(20)[::-1]
    expected = weights @ values / weights.sum()
    with average.applied():
        np.testing.assert_allclose(w.data, expected, rtol=0, atol=1e-6)
        assert w.dtype == dtype
    np.testing.assert_array_equal(w.data, values[-1].astype(dtype))


def test_the_weights_come_back_even_after_an_error():
    w = cr.Parameter([1.0])
    average = MovingAverage([("w", w)], decay=0.0)
    average.update()
    w.data = np.array([2.0])
    seen = []

    def fail():
        with average.applied():
            seen.extend(w.tolist())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (seen, w.tolist()) == ([1.0], [2.0])


def test_before_any_update_it_is_the_weights():
    w = cr.Parameter([5.0])
    with MovingAverage([("w", w)]).applied():
        assert w.tolist() == [5.0]


def test_its_state_goes_on_with_the_same_bits():
    values = np.random.default_rng(1).normal(size=(9, 2))
    w, v = cr.Parameter([0.0, 0.0]), cr.Parameter([0.0, 0.0])
    whole, first = (MovingAverage([("w", p)], decay=0.9) for p in (w, w))
    follow(whole, w, values)
    follow(first, w, values[:4])
    second = MovingAverage([("w", v)], decay=0.9)
    second.load_state(first.state())
    follow(second, v, values[4:])
    for name, array in whole.state().items():
        np.testing.assert_array_equal(second.state()[name], array)


def test_what_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="decay is out of range"):
        MovingAverage([], decay=1.0)
    with pytest.raises(CheckpointError, match="moving average"):
        MovingAverage([]).load_state({})
