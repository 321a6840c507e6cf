"""Gradients of single examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.autodiff import grad, per_example_gradients
from chainrule.errors import DataError

RNG = np.random.default_rng(0)


def loss(p: Any, x: Any, y: Any) -> Any:
    return ((cr.tanh(x @ p["w"]) @ p["v"] - y) ** 2).mean()


def _data() -> tuple[Any, Any, Any]:
    p = {"w": RNG.normal(size=(4, 3)), "v": RNG.normal(size=(3, 2))}
    return p, RNG.normal(size=(6, 4)), RNG.normal(size=(6, 2))


def test_their_mean_is_the_gradient_of_the_mean_loss() -> None:
    p, x, y = _data()
    single = per_example_gradients(loss, p, x, y)
    together = grad(loss)(p, x, y)
    assert single["w"].shape == (6, 4, 3)
    for name in p:
        assert np.allclose(single[name].data.mean(0), together[name].data, rtol=1e-12)


def test_each_equals_the_gradient_of_a_batch_of_one() -> None:
    p, x, y = _data()
    single = per_example_gradients(loss, p, x, y)
    for i in range(6):
        alone = grad(loss)(p, x[i : i + 1], y[i : i + 1])
        assert np.array_equal(single["v"].data[i], alone["v"].data)


class Model:
    def __init__(self, p: Any) -> None:
        self.w, self.v = cr.Parameter(p["w"]), cr.Parameter(p["v"])

    def named_parameters(self) -> Any:
        return [("w", self.w), ("v", self.v)]

    def __call__(self, x: Any) -> Any:
        return cr.tanh(x @ self.w) @ self.v


def test_a_model_gives_them_by_parameter_name() -> None:
    p, x, y = _data()
    model = Model(p)
    found = per_example_gradients(lambda z, y: ((z - y) ** 2).mean(), model, x, y)
    wanted = per_example_gradients(loss, p, x, y)
    for name in p:
        assert np.array_equal(found[name].data, wanted[name].data)
    assert model.w.grad is None


def test_inputs_and_targets_must_pair_up() -> None:
    p, x, y = _data()
    with pytest.raises(DataError, match="do not pair up"):
        per_example_gradients(loss, p, x, y[:5])
    with pytest.raises(DataError, match="do not pair up"):
        per_example_gradients(loss, p, x[:0], y[:0])
