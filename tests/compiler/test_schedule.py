"""Kernels that run together over parts of what they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr

ROWS, COLUMNS = (1711, 1728), 1003  # of weights that no cache holds; odd, and not
BATCHES = (13, 13, 4, 64, 70, 1)


def trained(num_rows: int, is_compiled: bool) -> list[Any]:
    """A large layer after steps of momentum with batches of several sizes."""
    rng = np.random.default_rng(0)
    w = cr.Parameter(rng.normal(0, 0.05, (num_rows, COLUMNS)).astype(np.float32))
    v = cr.Buffer(np.zeros((num_rows, COLUMNS), np.float32))
    below = cr.Parameter(rng.normal(0, 1, (7, num_rows)).astype(np.float32))

    def step(x: cr.Tensor) -> cr.Tensor:
        loss = cr.mean(cr.square(cr.tanh(x @ below) @ w - 1.0))
        loss.backward()
        with cr.no_grad():
            velocity = 0.9 * v - 0.5 * w.grad
            cr.assign(v, velocity)
            cr.assign(w, w + velocity)
            cr.assign(below, below - 0.5 * below.grad)
        w.grad = below.grad = None
        return loss

    run: Any = cr.compile(step) if is_compiled else step
    losses = []
    for n in BATCHES:
        x = cr.Tensor(rng.normal(size=(n, 7)).astype(np.float32))
        losses.append(run(x).item())
        if is_compiled and len(losses) == 1:
            phases = run.text("memory").split("arena")[0]
            # The gradient's way back, and the weight's own with its update.
            assert phases.count("(product) → ") == 1, phases
    return [np.array(losses), w.numpy(), v.numpy(), below.numpy()]


@pytest.mark.parametrize("num_rows", ROWS)
def test_a_large_weight_is_read_once_for_both_of_its_gradients(num_rows: int) -> None:
    ends = trained(num_rows, True), trained(num_rows, False)
    for native, eager in zip(*ends, strict=True):
        scale = np.abs(eager).max()
        np.testing.assert_allclose(native, eager, rtol=0, atol=2e-5 * scale)


def test_a_weight_that_two_gradients_go_back_through_is_no_chain() -> None:
    rng = np.random.default_rng(1)
    start = rng.normal(0, 0.03, (1300, 1300)).astype(np.float32)

    def run(is_compiled: bool) -> Any:
        w = cr.Parameter(start)

        def step(x: cr.Tensor) -> cr.Tensor:
            loss = cr.sum(cr.square(cr.tanh(cr.tanh(x) @ w) @ w))
            loss.backward()
            with cr.no_grad():
                cr.assign(w, w - 0.01 * w.grad)
            w.grad = None
            return loss

        f: Any = cr.compile(step) if is_compiled else step
        x = cr.Parameter(rng.normal(size=(8, 1300)).astype(np.float32) * 0 + 0.1)
        return f(x).item(), w.numpy()

    (native, w), (eager, expected) = run(True), run(False)
    assert native == pytest.approx(eager, rel=1e-5)
    np.testing.assert_allclose(w, expected, rtol=0, atol=1e-5)
