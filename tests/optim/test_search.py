"""Random search over weights."""

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import NonFiniteError, OptionError
from chainrule.optim import random_search

IMAGES = np.random.default_rng(0).normal(size=(40, 5))
LABELS = (IMAGES @ [1.0, -2.0, 0.5, 0.0, 1.0] > 0).astype(int)


def draw(rng):
    return rng.normal(size=(5, 2)) * 0.01


def loss(w):
    scores = cr.log_softmax(cr.as_tensor(IMAGES @ w))
    return -cr.take_along_axis(scores, LABELS[:, None]).mean()


def test_the_best_of_all_draws_is_kept_with_its_loss():
    found = random_search(loss, draw, num_draws=50, seed=3)
    assert found.losses.shape == (50,)
    assert found.best_loss == found.losses.min() == loss(found.best).item()
    assert found.losses[found.best_draw] == found.best_loss


def test_the_same_seed_gives_the_same_draws_and_more_draws_begin_with_them():
    short = random_search(loss, draw, num_draws=10, seed=1)
    long = random_search(loss, draw, num_draws=30, seed=1)
    np.testing.assert_array_equal(short.losses, long.losses[:10])
    assert (random_search(loss, draw, 10, seed=2).losses != short.losses).all()
    assert len(np.unique(long.losses)) == 30


def test_a_draw_whose_loss_is_not_a_number_never_wins():
    found = random_search(
        lambda w: math.nan if w < 0.5 else w, lambda rng: rng.uniform(), 20
    )
    assert 0.5 <= found.best < 0.7


def test_no_draws_and_no_finite_loss_are_refused():
    with pytest.raises(OptionError, match="no draws"):
        random_search(loss, draw, num_draws=0)
    with pytest.raises(NonFiniteError, match="no draw has a finite loss"):
        random_search(lambda w: math.inf, draw, num_draws=3)
