"""Minibatches read where they lie in a data set, and taken block by block."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule import nn
from chainrule.compiler.host import host_target, usable_targets
from chainrule.compiler.threads import pool

WIDTH, CLASSES, EXAMPLES = 1024, 10, 230
BATCHES = (100, 33, 1, 17, 205)  # blocks of 96 examples in float32, 48 in float64
rng = np.random.default_rng(5)
PICTURES = rng.normal(0.4, 0.3, (EXAMPLES, WIDTH))
LABELS = rng.integers(0, CLASSES, EXAMPLES)
ROWS = [rng.integers(-EXAMPLES, EXAMPLES, n) for n in BATCHES]


def lines(text: str) -> list[str]:
    return dedent(text).strip().splitlines()


def classifier(dtype: str, loss: Any = nn.softmax_cross_entropy) -> tuple[Any, Any]:
    """A step of training, and the weights that it changes."""
    start = np.random.default_rng(1).normal(0, 0.02, (WIDTH, CLASSES))
    w = cr.Parameter(start.astype(dtype), name="w")
    b = cr.Parameter(np.zeros(CLASSES, dtype), name="b")

    def step(rows: Any, x: Any, y: Any) -> Any:
        total = loss(x[rows] @ w + b, y[rows]) + 0.001 * (w * w).sum()
        total.backward()
        for p in (w, b):
            cr.assign(p, p - 0.1 * p.grad)
            p.grad = None
        return total

    return step, (w, b)


def trained(dtype: str, compiles: bool, **options: Any) -> list[np.ndarray]:
    step, weights = classifier(dtype, **options)
    run: Any = cr.compile(step) if compiles else step
    x, y = cr.Tensor(PICTURES.astype(dtype)), cr.Tensor(LABELS)
    losses = [run(cr.Tensor(rows), x, y).item() for rows in ROWS]
    return [np.array(losses), *(w.numpy() for w in weights)]


def check(native: list[Any], eager: list[Any], exact: list[Any], dtype: str) -> None:
    """Errors are at most four times those of eager execution."""
    for mine, numpys, right in zip(native, eager, exact, strict=True):
        rounding = np.abs(numpys - right).max()
        rounding += 4 * np.finfo(dtype).eps * np.abs(right).max()
        assert np.abs(mine - right).max() <= 4 * rounding


@pytest.mark.parametrize("target", usable_targets())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", [nn.softmax_cross_entropy, nn.multiclass_hinge])
def test_training_is_that_of_eager_execution(loss, dtype, target, monkeypatch):
    monkeypatch.setenv("CHAINRULE_TARGET", target)
    host_target.cache_clear()
    try:
        native = trained(dtype, True, loss=loss)
    finally:
        host_target.cache_clear()
    eager, exact = (
        trained(dtype, False, loss=loss),
        trained("float64", False, loss=loss),
    )
    check(native, eager, exact, dtype)


def test_rows_are_read_in_place_and_a_block_goes_through_both_products():
    step, _ = classifier("float32")
    run = cr.compile(step)
    x, y = cr.Tensor(PICTURES.astype(np.float32)), cr.Tensor(LABELS)
    run(cr.Tensor(ROWS[0]), x, y)
    text = run.text("fuse")
    sums = [line.strip() for line in text.splitlines() if "sum over" in line]
    products = [line for line in sums if not line.startswith("store")]
    expected = """
        v2: float32[n, 10] = sum over k < 1024 of x[rows_checked[i], k]·w[k, j]
        v36_blocks: float32[⌈n/96⌉, 10, 1024] = sum over l < 96 (of n) of v34[96·i + l, j]·x[rows_checked[96·i + l], k]
    """  # noqa: E501
    assert products == lines(expected)
    assert "[n, 1024]" not in text
    first, second = run.text("memory").splitlines()[:2]
    assert "k1 (map) → k2 (product) → k3 (rows) → k5 (product)" in first
    assert "columns" in second


def test_bits_do_not_depend_on_the_number_of_threads():
    before = pool().num_threads
    results = []
    try:
        for num_threads in (1, 2, 3, 7):
            pool().resize(num_threads)
            results.append([r.tobytes() for r in trained("float32", True)])
    finally:
        pool().resize(before)
    assert all(r == results[0] for r in results)


@pytest.mark.parametrize("bad", [EXAMPLES, -EXAMPLES - 1, 1 << 40])
def test_a_row_that_is_not_there_raises_and_the_next_step_is_right(bad):
    step, (w, _) = classifier("float32")
    run = cr.compile(step)
    x, y = cr.Tensor(PICTURES.astype(np.float32)), cr.Tensor(LABELS)
    rows = ROWS[1].copy()
    rows[20] = bad
    with pytest.raises(cr.errors.IndexingError, match="out of range"):
        run(cr.Tensor(rows), x, y)
    assert np.isfinite(w.numpy()).all()


def test_rows_that_others_need_as_well_are_copied():
    w = cr.Parameter(np.ones((WIDTH, 4), np.float32), name="w")

    def f(rows: Any, x: Any) -> Any:
        chosen = x[rows]
        return chosen @ w, chosen * 2

    run = cr.compile(f)
    x = cr.Tensor(PICTURES.astype(np.float32))
    sums, doubled = run(cr.Tensor(ROWS[1]), x)
    assert "checked" not in run.text("fuse")
    np.testing.assert_allclose(
        sums.numpy(), (x.numpy()[ROWS[1]] @ w.numpy()), rtol=1e-5
    )
    np.testing.assert_array_equal(doubled.numpy(), x.numpy()[ROWS[1]] * 2)


def test_rows_a_page_apart_get_room_between():
    w, v = (cr.Parameter(np.ones((1024, 1024), np.float32), name=n) for n in "wv")
    run = cr.compile(lambda x: cr.relu(cr.relu(x @ w) @ v))
    x = rng.normal(size=(9, 1024)).astype(np.float32)
    hidden = np.maximum(x @ w.numpy(), 0)
    found = run(cr.Tensor(x))
    np.testing.assert_allclose(found.numpy(), hidden @ v.numpy(), rtol=1e-4)
    assert "float32[n, 0+1024+32]" in run.text("arrange")


def perceptron(dtype: str = "float32") -> tuple[Any, Any]:
    """A step of training of two small layers, and the weights that it changes."""
    start = np.random.default_rng(2)
    shapes = {"w1": (600, 20), "w2": (20, 7)}
    ws = [
        cr.Parameter(start.normal(0, 0.05, shape).astype(dtype), name=name)
        for name, shape in shapes.items()
    ]

    def step(x: Any, y: Any) -> Any:
        loss = nn.softmax_cross_entropy(cr.sigmoid(x @ ws[0]) @ ws[1], y)
        loss.backward()
        for p in ws:
            cr.assign(p, p - 0.5 * p.grad)
            p.grad = None
        return loss

    return step, ws


def steps_of(sizes: tuple[int, ...], dtype: str, compiles: bool) -> list[np.ndarray]:
    step, ws = perceptron(dtype)
    run: Any = cr.compile(step) if compiles else step
    losses = []
    for n in sizes:
        numbers = np.random.default_rng(n)
        x = cr.Tensor(numbers.normal(size=(n, 600)).astype(dtype))
        losses.append(run(x, cr.Tensor(numbers.integers(0, 7, n))).item())
    return [np.array(losses), *(w.numpy() for w in ws)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_of_examples_go_forward_and_back_through_small_layers(dtype):
    sizes = (128, 65, 97, 64, 1, 300)
    native = steps_of(sizes, dtype, True)
    eager, exact = steps_of(sizes, dtype, False), steps_of(sizes, "float64", False)
    check(native, eager, exact, dtype)


def test_a_batch_has_the_same_bits_whatever_was_captured_first():
    def last(sizes: tuple[int, ...]) -> list[bytes]:
        step, ws = perceptron()
        run = cr.compile(step)
        for n in sizes:
            start = perceptron()[1]
            for w, s in zip(ws, start, strict=True):
                w.data = s.numpy()
            x = np.random.default_rng(n).normal(size=(n, 600)).astype(np.float32)
            run(cr.Tensor(x), cr.Tensor(np.arange(n) % 7))
        return [w.numpy().tobytes() for w in ws]

    for n in (33, 100):
        found = [last(before) for before in ((n,), (10, n), (200, n), (96, 50, n))]
        assert all(f == found[0] for f in found)


def test_one_phase_for_the_examples_and_one_for_the_weights():
    step, _ = perceptron()
    run = cr.compile(step)
    x = cr.Tensor(rng.normal(size=(100, 600)).astype(np.float32))
    run(x, cr.Tensor(np.arange(100) % 7))
    phases = run.text("memory").split("arena")[0].strip().splitlines()
    assert phases == lines("""
        phase 0: k4 (map)
        phase 1: k0 (product) → k1 (product) → k2 (rows) → k5 (product) → k6 (product) → k8 (product)
        phase 2: k3 (rows), k7 (columns), k9 (columns)
    """)  # noqa: E501


def test_the_function_runs_once_though_blocks_are_for_large_batches():
    step, _ = perceptron()
    calls = []

    def counted(x: Any, y: Any) -> Any:
        calls.append(len(calls))
        return step(x, y)

    run = cr.compile(counted)
    for n in (128, 40, 65, 64, 300, 7):  # 1 is a case of its own, for broadcasting
        x = np.random.default_rng(n).normal(size=(n, 600)).astype(np.float32)
        run(cr.Tensor(x), cr.Tensor(np.arange(n) % 7))
    assert calls == [0]


def two_classifiers(dtype: str, compiles: bool) -> list[np.ndarray]:
    """Scores from rows of two data sets, of different widths."""
    start = np.random.default_rng(3)
    widths = (600, 3000)
    ws = [cr.Parameter(start.normal(0, 0.01, (k, 5)).astype(dtype)) for k in widths]

    def step(rows: Any, a: Any, b: Any) -> Any:
        loss = (cr.tanh(a[rows] @ ws[0] + b[rows] @ ws[1]) ** 2).sum()
        loss.backward()
        for w in ws:
            cr.assign(w, w - 0.01 * w.grad)
            w.grad = None
        return loss

    run: Any = cr.compile(step) if compiles else step
    sets = [cr.Tensor(start.normal(size=(200, k)).astype(dtype)) for k in widths]
    losses = [
        run(cr.Tensor(start.permutation(200)[:n]), *sets).item() for n in (190, 50)
    ]
    return [np.array(losses), *(w.numpy() for w in ws)]


def test_classifiers_of_rows_of_several_widths_share_their_blocks():
    native, eager = (two_classifiers("float32", c) for c in (True, False))
    check(native, eager, two_classifiers("float64", False), "float32")


@pytest.mark.parametrize("count", [7, 20, 33])
def test_rows_are_picked_by_code_for_one_batch_size_too(count):
    w = cr.Parameter(rng.normal(size=(WIDTH, 5)).astype(np.float32))
    x = cr.Tensor(PICTURES.astype(np.float32))

    def scores(rows: Any) -> Any:
        return x[rows] @ w if len(rows) == count else x[rows] @ w * 2

    run = cr.compile(lambda rows: scores(rows))
    rows = cr.Tensor(rng.integers(0, EXAMPLES, count))
    np.testing.assert_allclose(run(rows).numpy(), scores(rows).numpy(), atol=1e-4)
