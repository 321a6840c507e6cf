"""What a caller of ``chainrule.compile`` relies on."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim

pytest.importorskip("llvmlite")

native = pytest.mark.skipif(
    os.environ.get("CHAINRULE_EXECUTION") == "numpy", reason="execution is NumPy here"
)
pytestmark = native

X = np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, 64)
STRESS_S = float(os.environ.get("CHAINRULE_STRESS_SECONDS", "1"))


def training_step(seed: int = 0, rate: float = 0.2) -> tuple[Any, nn.Module]:
    cr.manual_seed(seed)
    model = nn.mlp(20, [33], 5, dropout=rate)
    adam = optim.optimizer("adam", model.named_parameters(), lr=0.01)

    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        loss = nn.softmax_cross_entropy(model(x), y)
        loss.backward()
        adam.step()
        adam.zero_grad()
        return loss

    return step, model


def weights(model: nn.Module) -> bytes:
    return b"".join(p.data.tobytes() for _, p in model.named_parameters())


def test_the_function_runs_once_whatever_the_batch_size():
    calls = []

    @cr.compile
    def f(x: cr.Tensor) -> cr.Tensor:
        calls.append(x.shape)
        return (x * 2).sum(axis=1)

    for n in (64, 2, 17, 64, 33):
        np.testing.assert_allclose(f(X[:n]).data, X[:n].sum(axis=1) * 2, rtol=1e-5)
    assert len(calls) == 1
    f(X[:, :7])
    f(X.astype(np.float64))
    assert len(calls) == 3


def test_a_batch_read_backwards_is_captured_once():
    calls = []

    @cr.compile
    def f(x: cr.Tensor) -> cr.Tensor:
        calls.append(x.shape)
        return x[::-1] * 1.0

    for n in (64, 3, 17):
        np.testing.assert_array_equal(f(X[:n]).data, X[:n][::-1])
    assert len(calls) == 1


def test_scan_is_as_many_calls():
    rows = np.random.default_rng(2).permutation(60).reshape(6, 10)
    one, first = training_step()
    many, second = training_step()

    @cr.compile
    def picked(rows: cr.Tensor, x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        return many(x[rows], y[rows])

    each = cr.compile(one)
    losses = [each(X[r], Y[r]).item() for r in rows]
    stacked = picked.scan(rows, X, Y)
    assert stacked.shape == (6,)
    assert stacked.tolist() == losses
    assert weights(first) == weights(second)


def test_scan_wants_one_entry_for_each_step():
    with pytest.raises(cr.errors.ShapeError, match="leading axis"):
        cr.compile(lambda a, b: a + b).scan((np.ones(3), np.ones(4)))


def test_a_module_in_evaluation_is_captured_anew():
    cr.manual_seed(0)
    model = nn.mlp(20, [33], 5, dropout=0.5)
    f = cr.compile(model)
    model.train()
    dropped = f(X).data
    model.eval()
    kept = f(X).data
    assert not np.array_equal(dropped, kept)
    np.testing.assert_array_equal(kept, f(X).data)
    np.testing.assert_allclose(kept, model(cr.Tensor(X)).data, rtol=1e-4, atol=1e-5)


def test_reading_a_value_names_the_line():
    @cr.compile
    def f(x: cr.Tensor) -> cr.Tensor:
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(cr.errors.CaptureError) as caught:
        f(X)
    assert "if x.sum() > 0:" in str(caught.value)
    assert "test_function.py" in str(caught.value)


def test_gradients_left_behind_are_found_after_the_call():
    w = cr.Parameter(np.ones((20, 1), np.float32))

    @cr.compile
    def f(x: cr.Tensor) -> cr.Tensor:
        w.grad = None
        loss = (x @ w).sum()
        loss.backward()
        return loss

    for _ in range(2):
        f(X)
        assert w.grad is not None
        np.testing.assert_allclose(w.grad.data[:, 0], X.sum(axis=0), rtol=1e-4)


def test_a_compiled_function_can_be_differentiated():
    f = cr.compile(lambda x: (x**3).sum())
    x = np.array([1.0, 2.0])
    np.testing.assert_allclose(cr.grad(f)(x).data, 3 * x**2)
    np.testing.assert_allclose(
        cr.compile(cr.grad(cr.grad(lambda x: x**3)))(2.0).data, 12
    )


def test_numpy_execution_gives_the_same(monkeypatch):
    step, _ = training_step()
    monkeypatch.setenv("CHAINRULE_EXECUTION", "numpy")
    eager = [cr.compile(step)(cr.Tensor(X), cr.Tensor(Y)).item() for _ in range(3)]
    monkeypatch.setenv("CHAINRULE_EXECUTION", "native")
    step, _ = training_step()
    compiled = cr.compile(step)
    np.testing.assert_allclose([compiled(X, Y).item() for _ in range(3)], eager, 1e-5)


def test_an_unknown_execution_is_named(monkeypatch):
    monkeypatch.setenv("CHAINRULE_EXECUTION", "gpu")
    with pytest.raises(cr.errors.OptionError, match="CHAINRULE_EXECUTION"):
        cr.compile(lambda x: x)(X)


_BITS = """
import sys; sys.path.insert(0, {folder!r})
import hashlib, numpy as np, chainrule as cr
from chainrule import nn, optim
cr.manual_seed(3)
rng = np.random.default_rng(0)
x = rng.normal(size=(300, 700)).astype(np.float32)
y = rng.integers(0, 10, 300)
model = nn.mlp(700, [130], 10, dropout=0.1)
adam = optim.optimizer("adam", model.named_parameters(), lr=0.01)
@cr.compile
def step(rows, x, y):
    loss = nn.softmax_cross_entropy(model(x[rows]), y[rows])
    loss.backward(); adam.step(); adam.zero_grad()
    return loss
losses = step.scan(rng.integers(0, 300, (20, 128)), x, y)
h = hashlib.sha256(losses.data.tobytes())
for _, p in model.named_parameters():
    h.update(p.data.tobytes())
print(h.hexdigest(), step.report().through_compute)
"""


def test_the_bits_do_not_depend_on_the_number_of_threads():
    found = set()
    for count in (1, 2, 3, 7):
        done = subprocess.run(
            [sys.executable, "-c", _BITS.format(folder=os.path.dirname(__file__))],
            env={**os.environ, "CHAINRULE_NUM_THREADS": str(count)},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
    assert found.pop().endswith("[]\n")


def test_threads_that_call_at_once_get_the_bits_of_one_after_another():
    steps = [training_step(seed) for seed in range(4)]
    shared = [cr.compile(step) for step, _ in steps]
    errors: list[BaseException] = []
    num_calls = [0] * 8
    end = time.monotonic() + STRESS_S

    def call(number: int) -> None:
        try:
            while num_calls[number] < 20 or time.monotonic() < end:
                shared[number % 4](X, Y)
                num_calls[number] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    for seed in range(4):
        step, model = training_step(seed)
        alone = cr.compile(step)
        for _ in range(num_calls[seed] + num_calls[seed + 4]):
            alone(X, Y)
        assert weights(steps[seed][1]) == weights(model)


def test_many_steps_do_not_let_memory_grow():
    resource = pytest.importorskip("resource")
    step, _ = training_step()

    @cr.compile
    def picked(rows: cr.Tensor, x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        return step(x[rows], y[rows])

    rows = np.random.default_rng(0).integers(0, 64, (1000, 8))
    picked.scan(rows, X, Y)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(99):
        picked.scan(rows, X, Y)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) <= 2**20
