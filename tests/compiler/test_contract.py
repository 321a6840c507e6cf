"""Compiled functions answer as eager ones do: shapes, views, batches, state, memory."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.host import host_target, usable_targets
from chainrule.compiler.ir import at
from chainrule.compiler.pipeline import build
from chainrule.core.capture import capture
from chainrule.errors import IndexingError

DTYPES = ["float32", "float64"]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def ints(below: int, *shape: int, low: int = 0) -> np.ndarray:
    return np.random.default_rng(shape).integers(low, below, shape)


def bools(*shape: int) -> np.ndarray:
    return ints(2, *shape).astype(bool)


# ---------------------------------------------------------------- products, reductions

EXTENTS = [*itertools.product([1, 3, 17], [1, 33, 100], [1, 3, 65]), (100, 64, 10)]


def products(n: int, k: int, m: int) -> list[tuple[Any, list[np.ndarray]]]:
    """Every way to multiply an (n, k) by a (k, m): function and operands."""
    return [
        (lambda a, b: a @ b, [normal(n, k), normal(k, m)]),
        (lambda a, b: a.T @ b, [normal(k, n), normal(k, m)]),
        (lambda a, b: a @ b.T, [normal(n, k), normal(m, k)]),
        (lambda a, b: a.T @ b.T, [normal(k, n), normal(m, k)]),
        (lambda a, b: a @ b, [normal(2, 1, n, k), normal(3, k, m)]),
        (lambda a, b: a @ b, [normal(n, k), normal(2, k, m)]),
        (lambda a, b: a @ b, [normal(2, n, k), normal(k, m)]),
        (lambda a, b: cr.transpose(a, (1, 0, 2)) @ cr.transpose(b, (1, 2, 0)),
         [normal(n, 2, k), normal(m, 2, k)]),
        (lambda a, b: a @ b, [normal(k), normal(k, m)]),
        (lambda a, b: a @ b, [normal(2, n, k), normal(k)]),
        (lambda a, b: a @ b, [normal(k), normal(k)]),
        (lambda a, b: a[::-1, ::2] @ b[1:], [normal(n, 2 * k), normal(k + 1, m)]),
        (lambda a, b: cr.relu(cr.tanh(a) @ b + b[0]) @ b.T,
         [normal(n, k), normal(k, m)]),
        (lambda a: a @ a.T, [normal(n, k)]),
        (lambda a, i, b: a[i] @ b, [normal(9, k), ints(9, n), normal(k, m)]),
    ]  # fmt: skip


@pytest.mark.parametrize("target", usable_targets())
@pytest.mark.parametrize("form", range(15))
def test_products_of_all_forms(form, target, agreement, monkeypatch):
    monkeypatch.setenv("CHAINRULE_TARGET", target)
    host_target.cache_clear()
    try:
        sizes = (
            EXTENTS[form % 3 :: 3] if target == usable_targets()[0] else EXTENTS[-1:]
        )
        for i, extents in enumerate(sizes):
            f, arrays = products(*extents)[form]
            agreement.check(f, arrays, DTYPES[i % 2])
    finally:
        host_target.cache_clear()


REDUCED = [(100,), (17, 33), (33, 1, 5), (3, 5, 7), (40, 2, 3), (64, 100)]
FOLDS = ["sum", "mean", "max", "min", "logsumexp", "std", "norm"]
ALONG = ["cumsum", "softmax", "log_softmax", "argmax", "argmin"]


@pytest.mark.parametrize("target", usable_targets())
@pytest.mark.parametrize("shape", REDUCED)
def test_reductions_over_any_axes(shape, target, agreement, monkeypatch):
    monkeypatch.setenv("CHAINRULE_TARGET", target)
    host_target.cache_clear()
    try:
        for count in range(len(shape) + 1):
            for axes in itertools.combinations(range(len(shape)), count):
                dtype = DTYPES[sum(axes) % 2]
                # One program for all: each is a kernel or more.
                agreement.check(
                    lambda x: [getattr(cr, n)(x, axes) for n in FOLDS],  # noqa: B023
                    [normal(*shape)],
                    dtype,
                )
        for axis in range(len(shape)):
            agreement.check(
                lambda x: [getattr(cr, n)(x, axis) for n in ALONG],  # noqa: B023
                [normal(*shape)],
                DTYPES[axis % 2],
            )
    finally:
        host_target.cache_clear()


@pytest.mark.parametrize("shape", REDUCED)
def test_integers_bools_and_bytes_reduce_as_eager(shape, agreement):
    agreement.check(
        lambda x: [cr.sum(x), cr.max(x), cr.min(x, 0), cr.sum(x, 0), cr.argmax(x, 0),
                   cr.argmin(x), cr.cumsum(x, -1), cr.mean(x)],
        [ints(3, *shape, low=-2)],
    )  # fmt: skip
    agreement.check(
        lambda x: [cr.sum(x), cr.max(x), cr.min(x, 0), cr.sum(x, 0), cr.mean(x)],
        [bools(*shape)],
    )
    agreement.check(
        lambda x: [cr.max(x), cr.min(x, 0), x < 100, x.astype("float32") / 255,
                   cr.argmax(x)],
        [ints(256, *shape).astype("uint8")],
    )  # fmt: skip


# ------------------------------------------------------------------------------ views

VIEWS: dict[str, Any] = {
    "slices": lambda x: x[::-1, ::-2, 1:],
    "slices from the end": lambda x: x[-2:0:-1, ..., -1],
    "new axes": lambda x: x[None, :, None, 2],
    "nothing": lambda x: x[2:2],
    "one element": lambda x: x[1, -1, 2],
    "a list": lambda x: x[:, [0, -1, 1, 1]],
    "two lists": lambda x: x[[0, 1], [2, 3]],
    "lists apart": lambda x: x[[0, 1], :, [2, 3]],
    "a list and an integer": lambda x: x[0, :, [2, 3]],
    "lists that broadcast": lambda x: x[[[0], [1]], [2, 3, 4]],
    "a mask": lambda x: x[np.arange(24).reshape(4, 6) % 3 == 0],
    "a mask inside": lambda x: x[:, np.array([1, 0, 1, 0, 0, 1], bool)],
    "an empty list": lambda x: x[[]],
    "take": lambda x: cr.take(x, np.array([[0, 1], [2, 0]]), 1),
    "take along": lambda x: cr.take_along_axis(
        x, cr.argmax(x, 1).reshape(4, 1, 5), 1),
    "picks of picks": lambda x: x[[2, 1]][:, [0, 5, 5]][..., ::-1],
    "picks of a flip": lambda x: cr.flip(x, 0)[[1, 1, 2]],
    "flips": lambda x: cr.flip(cr.flip(x, 1), (0, 1)),
    "tile": lambda x: cr.tile(x, (2, 1, 3)),
    "repeat": lambda x: cr.repeat(x, 3, 1),
    "roll": lambda x: cr.roll(cr.roll(x, 2, 1), -3, 0),
    "split": lambda x: cr.split(x, [1, 2, 3], 1),
    "stack": lambda x: cr.stack([x.T, x.T * 2]).T,
    "pad": lambda x: cr.pad(x, ((1, 2), (0, 0), (3, 0)), value=-1.5),
    "concatenate": lambda x: cr.concatenate([x, x[:, :2], x * 2], 1),
    "concatenate rows": lambda x: cr.concatenate([x, x[:1], x[::-1]], 0),
    "concatenate columns": lambda x: cr.concatenate([x, x[..., :1]], -1),
    "reshapes": lambda x: [x.reshape(24, 5), (x + 1).reshape(8, 15), x.reshape(-1)],
    "reshapes of a transpose": lambda x: x.T.reshape(6, 20).T.reshape(5, 4, 6),
    "a reshape that splits": lambda x: x.reshape(2, 2, 3, 2, 5).sum((1, 3)),
    "broadcasts": lambda x: cr.broadcast_to(x[0], (3, 6, 5)) * x[:3, :1, :1],
    "cumsums": lambda x: cr.cumsum(cr.cumsum(x.T, 0)[:, ::-2], 1)[:, 1:],
    "scatter": lambda x: cr.scatter_add(x, np.array([0, 2, 2, 0]), 3),
    "scatter inside": lambda x: cr.scatter_add(x, np.array([1, 1, 1, 0, -1, 2]), 5, 1),
    "where": lambda x: cr.where(x[0] > 0, x, x[:, :1]),
    "comparisons": lambda x: ((x > 0.5) | (x < -0.5)) & ~(x == 1),
    "casts": lambda x: [cr.floor(x * 3).astype("int32"), cr.abs(x * 9).astype("uint8"),
                        (x > 0).astype("float32") * 2, x.astype("bool")],
    "powers": lambda x: cr.abs(x) ** 2.5 + x**3 + 2.0**x,
    "batch normalisation": lambda x: (x - x.mean(0)) / cr.sqrt(cr.var(x, 0) + 1e-5),
    "layer normalisation": lambda x: (x - cr.mean(x, -1, keepdims=True))
    / cr.std(x, -1, keepdims=True),
    "softmaxes": lambda x: cr.softmax(x, 1) * cr.log_softmax(x, -1),
    "ties": lambda x: [cr.max(cr.floor(x), 1), cr.argmax(cr.floor(x), 1)],
    "an array from outside": lambda x: x * 0 + cr.Tensor(np.arange(5.0)),
    "itself": lambda x: [x, x * 2, x * 2, x.mean().reshape(1, 1)],
    "sums of sums": lambda x: x.sum() * x.sum(0) * x.sum((0, 2)).sum(),
    "numbers": lambda x: [cr.where(cr.less(1.0, 2.0), x, 0.0) + cr.maximum(1.0, 2.0),
                          cr.less(1, 2), cr.exp(0.5) * x[0], cr.where(True, x, 0.0)],
    "the size": lambda x: [x / x.shape[0], x.sum() / x.shape[0] ** 0.5],
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", VIEWS)
def test_views_and_what_is_made_of_them(name, dtype, agreement):
    agreement.check(VIEWS[name], [normal(4, 6, 5)], dtype)


INDEXED: dict[str, Any] = {
    "rows of a table": (lambda w, i: w[i], normal(10, 7), ints(10, 5, 3, low=-10)),
    "a label of each row": (
        lambda x, i: x[cr.positions(x), i], normal(9, 4), ints(4, 9, low=-4)),
    "of a single row": (lambda x, i: x[cr.positions(x), i], normal(1, 4), ints(4, 1)),
    "labels in bytes": (
        lambda x, i: x[cr.positions(x), i], normal(9, 4), ints(4, 9).astype("uint8")),
    "a row of each column": (
        lambda x, i: x[i, cr.positions(x, 1)], normal(9, 4), ints(9, 4)),
    "pairs": (lambda x, i, j: x[i, j], normal(9, 4), ints(9, 20), ints(4, 20)),
    "no pairs": (lambda x, i: [x[i], x[:, i]], normal(3, 3), ints(3, 0)),
    "repeated sums": (lambda x, i: cr.scatter_add(x, i, 4), normal(50, 3), ints(4, 50)),
    "repeated sums of integers": (
        lambda x, i: cr.scatter_add(x, i, 4), ints(9, 50), ints(4, 50)),
    "one-hot": (lambda i: cr.one_hot(i, 5, "float64"), ints(5, 7, 2)),
    "a mask and a row": (lambda x, m: cr.where(m, x, -x), normal(9, 4), bools(9, 1)),
    "bools": (
        lambda a, b: [a & b, a | b, ~a, a == b, a != b, cr.where(a, b, ~b), a < b],
        bools(7, 5), bools(5)),
    "integers": (
        lambda a, b: [a + b, a - b, a * b, -a, cr.abs(a), cr.sign(a), a**3, a < b,
                      a == b, a / 3, cr.maximum(a, b), cr.clip(a, -1, 2), a @ b.T],
        ints(9, 7, 5, low=-9), ints(9, 1, 5, low=-9)),
    "two lengths that agree": (
        lambda a, b: [a[:, None] * b[None], cr.exp(a)[:, None] - b],
        normal(6), normal(6)),
    "numbers alone": (
        lambda a, b: [a + b, a > b, cr.sum(a), cr.max(a), a.reshape(1, 1)],
        np.asarray(0.5), np.asarray(-2.0)),
    "no rows": (
        lambda a: [a + 1, cr.sum(a), cr.sum(a, 0), cr.mean(a, 0),
                   cr.concatenate([a, a], 1), cr.pad(a, ((1, 0), (0, 1)))],
        normal(0, 3)),
    "no columns": (
        lambda a: [a + 1, cr.sum(a, 1), cr.mean(a, 1), a.T, cr.cumsum(a, 1),
                   cr.logsumexp(a, 1), cr.concatenate([a, a], 0)],
        normal(3, 0)),
    "products of nothing": (
        lambda a, b: [a @ b, b.T @ a.T], normal(3, 0), normal(0, 4)),
}  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INDEXED)
def test_indices_masks_integers_and_nothing_at_all(name, dtype, agreement):
    f, *arrays = INDEXED[name]
    agreement.check(f, arrays, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_masks_have_equal_bits_however_they_are_read(dtype, agreement):
    key, step = np.array([2**32 - 5, 77], np.uint32), np.int64(2**40 + 3)

    def f(x: Any, key: Any, step: Any) -> Any:
        masks = [cr.dropout_mask(y, key, step, 0.3) for y in (x, x.T, x[:, 1])]
        return [*masks, masks[0] * x + masks[1].T]

    x = cr.Tensor(normal(33, 7).astype(dtype))
    for y, e in zip(cr.compile(f)(x, key, step), f(x, key, step), strict=True):
        assert y.data.tobytes() == e.data.tobytes()


# ---------------------------------------------------------------------------- batches

BATCHED: dict[str, Any] = {
    "layers": lambda x: cr.relu(x @ normal(4, 3).astype(x.dtype)).sum(1),
    "products with itself": lambda x: x.T @ x,
    "means": lambda x: [x.mean(), x.mean(0), cr.std(x, 0), cr.logsumexp(x)],
    "softmaxes": lambda x: cr.softmax(x, 0) + cr.softmax(x, 1),
    "running sums": lambda x: cr.cumsum(x, 0),
    "extrema": lambda x: [cr.max(x, 0), cr.argmax(x, 0), cr.argmax(x, 1), cr.argmax(x)],
    "flips": lambda x: cr.flip(x, 0),
    "concatenation": lambda x: cr.concatenate([x, x * 2, x[1:]], 0),
    "padding": lambda x: cr.pad(x, ((1, 2), (0, 1))),
    "reshapes": lambda x: [x.reshape(-1) * 2, (x.T * 2).reshape(4, -1)],
    "slices": lambda x: [x[1:], x[:-1], x[-1] + x[-2]],
    "picks": lambda x: x[[0, 1, 0]],
    "counts": lambda x: [cr.positions(x) * 2, x / x.shape[0]],
    "tiles": lambda x: [cr.tile(x, (2, 1)), cr.repeat(x, 2, 0), cr.stack([x, x], 0)],
    "sums at labels": lambda x: cr.scatter_add(x, cr.argmax(x, 1), 4),
    "dropout": lambda x: x * cr.dropout_mask(x, np.array([3, 5], np.uint32), 2, 0.4),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BATCHED)
def test_one_program_serves_all_batch_sizes(name, dtype, agreement):
    f = BATCHED[name]
    compiled = agreement.check(f, [normal(5, 4)], dtype)
    first = compiled.text("capture")
    for n in (3, 17, 64, 100, 5):
        agreement.check_again(compiled, f, [normal(n, 4)], dtype)
        assert compiled.text("capture") == first
    assert sum(map(len, compiled._builds.values())) == 1
    agreement.check_again(compiled, f, [normal(2, 4)], dtype)
    if name not in ("softmaxes", "extrema", "slices", "picks"):
        agreement.check_again(compiled, f, [normal(0, 4)], dtype)


@pytest.mark.parametrize(
    "f", [lambda x: x @ x.T, lambda x: x[:, :1] * x[:, 1], lambda x: x[::-2]]
)
def test_what_one_program_cannot_serve_is_compiled_again(f, agreement):
    compiled = agreement.check(f, [normal(5, 4)])
    for n in (3, 1, 17, 5):
        agreement.check_again(compiled, f, [normal(n, 4)])
    assert sum(map(len, compiled._builds.values())) == 4


# --------------------------------------------------------------- indices out of range


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
@pytest.mark.parametrize(
    "f",
    [
        lambda s, y: nn.softmax_cross_entropy(s, y),
        lambda s, y: nn.softmax_cross_entropy(s, y, label_smoothing=0.1),
        lambda s, y: nn.multiclass_hinge(s, y),
        lambda s, y: cr.one_hot(y, 4),
        lambda s, y: s[cr.positions(s), y],
        lambda s, y: s[:, :4].T[y],
        lambda s, y: cr.scatter_add(s, y, 4),
    ],
)
def test_an_index_out_of_range_raises_and_the_next_call_is_right(f, dtype, agreement):
    compiled = cr.compile(f)
    scores, labels = cr.Tensor(normal(9, 4)), np.array([0, 1, 2, 3, 3, 2, 1, 0, 2])
    expected = f(scores, labels.astype(dtype)).data
    for bad in (None, 4, 100, -5, None):
        given = labels.copy()
        given[8] = 2 if bad is None else bad
        if bad is None:
            found = compiled(scores, given.astype(dtype)).data
            np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
        elif bad >= 0 or dtype != "uint8":
            with pytest.raises(IndexingError, match="out of range"):
                compiled(scores, given.astype(dtype))


# ------------------------------------------------------------------------------- state


def swap(a: Any, b: Any, c: Any) -> Any:
    old, new = a * 1, b * 1
    cr.assign(a, new)
    cr.assign(b, old)


def follow(a: Any, b: Any, c: Any) -> Any:
    cr.assign(b, a)
    cr.assign(a, a * 2)
    return b * 1


def reshaped(a: Any, b: Any, c: Any) -> Any:
    cr.assign(a, c.reshape(4))
    cr.assign(c, c * 2)
    return a + 1


def turned(a: Any, b: Any, c: Any) -> Any:
    cr.assign(a, cr.flip(a))
    cr.assign(b, a + 1)
    return a * 1


def shared(a: Any, b: Any, c: Any) -> Any:
    new = a + 1
    cr.assign(a, new)
    cr.assign(b, new)
    return new


def mixed(a: Any, b: Any, c: Any) -> Any:
    cr.assign(a, cr.cumsum(a) * 0.1)
    cr.assign(b, b[[3, 2, 1, 0]])
    cr.assign(c, c @ c * 0.1 + c.T)


def summed(a: Any, b: Any, c: Any) -> Any:
    cr.assign(a, a * 0.1 + a.sum())
    cr.assign(b, b - a.mean())
    return c.sum() * 1


def constant(a: Any, b: Any, c: Any) -> Any:
    cr.assign(a, cr.Tensor(np.full(4, 7.0)))
    cr.assign(b, 0.0 * b + 3)
    return b * 1


@pytest.mark.parametrize(
    "f", [swap, follow, reshaped, turned, shared, mixed, summed, constant]
)
def test_assignments_read_what_was_there_before(f, agreement):
    ends = []
    for compiles in (False, True):
        state = [cr.Buffer(np.arange(4.0)), cr.Buffer(np.arange(4.0) * 10 + 1)]
        state.append(cr.Buffer([[1.0, 2.0], [0.5, -1.0]]))

        def step(state=state):
            return f(*state)

        run = cr.compile(step) if compiles else step
        results = [run() for _ in range(3)]
        found = [r.numpy() for r in results if r is not None]
        ends.append([*found, *(v.numpy() for v in state)])
    for y, e in zip(*ends, strict=True):
        np.testing.assert_allclose(y, e, rtol=1e-14)


@pytest.mark.parametrize("target", usable_targets())
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_network_trains_alike_on_every_processor(
    target, dtype, agreement, monkeypatch
):
    monkeypatch.setenv("CHAINRULE_TARGET", target)
    host_target.cache_clear()

    def trained(dtype: str, compiles: bool) -> list[np.ndarray]:
        cr.manual_seed(0)
        model = nn.mlp(33, [17], 10, dropout=0.25).initialize(0).astype(dtype)
        chosen = optim.optimizer("adam", model.named_parameters(), lr=0.01)

        def step(x: Any, y: Any) -> Any:
            loss = nn.softmax_cross_entropy(model(x), y)
            loss.backward()
            chosen.step()
            chosen.zero_grad()
            return loss

        run = cr.compile(step) if compiles else step
        found = [
            run(cr.Tensor(normal(n, 33).astype(dtype)), ints(10, n)).numpy()
            for n in (5, 64, 3, 100, 1)
        ]
        return [*found, *(np.array(v) for v in model.state().values())]

    try:
        eager, exact = trained(dtype, False), trained("float64", False)
        agreement.close(trained(dtype, True), eager, exact)
    finally:
        host_target.cache_clear()


# ------------------------------------------------------------------------------ memory


class Guarded:
    """Arrays that end where memory ends: the next byte cannot be touched."""

    def __init__(self) -> None:
        self.kept: list[Any] = []
        self.protect = ctypes.CDLL(None, use_errno=True).mprotect
        self.protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        page, dtype = mmap.PAGESIZE, np.dtype(dtype)
        count = int(np.prod(shape))
        size = -(-max(count * dtype.itemsize, 1) // page) * page
        memory = mmap.mmap(-1, size + 2 * page)
        begin = np.frombuffer(memory, np.uint8)
        for edge in (0, page + size):
            assert self.protect(begin.ctypes.data + edge, page, 0) == 0
        self.kept.append(begin)
        start = page + size - count * dtype.itemsize
        return begin[start : page + size].view(dtype).reshape(shape)

    def copy(self, array: Any) -> np.ndarray:
        array = np.asarray(array)
        found = self.empty(array.shape, array.dtype)
        found[...] = array
        return found


class GuardedResults:
    """NumPy, except that new arrays end where memory ends."""

    def __init__(self, guards: Guarded) -> None:
        self.empty = guards.empty

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def small_steps() -> dict[str, tuple[Callable[..., Any], list[Any]]]:
    """Steps of training, and what they take: sizes that fill no vector and no block."""

    def step(model: nn.Module, name: str) -> Callable[..., Any]:
        chosen = optim.optimizer(name, model.named_parameters(), lr=0.01)

        def run(x: Any, y: Any) -> Any:
            loss = nn.softmax_cross_entropy(model(x), y)
            loss.backward()
            chosen.step()
            chosen.zero_grad()
            return loss

        return run

    cr.manual_seed(0)
    linear = step(nn.mlp(1025, [], 7).initialize(0), "momentum")
    layers = step(nn.mlp(33, [17, 5], 3).initialize(0), "adam")
    image = nn.Sequential(nn.Conv(1, 3, 3), nn.ReLU(), nn.MaxPool(2), nn.Flatten(),
                          nn.Dense(3 * 9, 3)).initialize(0)  # fmt: skip
    deep = step(
        nn.Sequential(nn.Conv(1, 17, 3), nn.ReLU(), nn.Conv(17, 19, 3, padding=1),
                      nn.ReLU(), nn.Conv(19, 16, 5, padding=2), nn.Flatten(),
                      nn.Dense(16 * 63, 3)).initialize(0), "sgd"
    )  # fmt: skip
    rows = np.random.default_rng(0).integers(0, 40, 37)
    return {
        "a linear classifier in place": (
            lambda i, x, y: linear(x[i], y[i]), [rows, normal(40, 1025), ints(7, 40)]
        ),
        "layers in a chain": (layers, [normal(37, 33), ints(3, 37)]),
        "convolution": (step(image, "sgd"), [normal(9, 8, 8, 1), ints(3, 9)]),
        "Winograd's tiles": (deep, [normal(9, 9, 11, 1), ints(3, 9)]),
    }  # fmt: skip


def train_between_guards() -> None:
    """Steps of training with inputs, values, results and weights at ends of pages."""
    from chainrule.compiler import program

    for name, (f, given) in small_steps().items():
        guards = Guarded()
        given = [np.float32(a) if a.dtype.kind == "f" else a for a in given]
        arrays = [guards.copy(a) for a in given]
        graph = capture(f, [cr.Tensor(a) for a in arrays])
        machine = build(graph).machine
        n = graph.batch or 0
        variables = [v for v, _ in machine._leaves if v.kind == "variable"]
        before = [v.source._array.copy() for v in variables]
        first = machine.run(arrays, n)
        after = [v.source._array.copy() for v in variables]
        for node in machine._arena_nodes:
            slot = machine.layout.buffers[node]
            held = tuple(at(s, n) for s in node.held)
            place = guards.empty(held, node.dtype)
            place[...] = node.fill
            machine._context[slot] = place.ctypes.data
        for v, start in zip(variables, before, strict=True):
            v.source._array = guards.copy(start)
        program.np = GuardedResults(guards)
        try:
            results = machine.run(arrays, n)
        finally:
            program.np = np
        now = [v.source._array for v in variables]
        for y, e in zip([*results, *now], [*first, *after], strict=True):
            np.testing.assert_array_equal(y, e, err_msg=name)


def run_between_guards() -> None:
    """All the views and some products, with every buffer at the end of a page."""
    cases = [(f, [normal(4, 6, 5)]) for f in VIEWS.values()]
    cases += [(f, arrays) for f, *arrays in INDEXED.values()]
    cases += products(17, 33, 3) + products(3, 65, 17) + products(64, 19, 10)
    cases += [(f, [normal(5, 4)]) for f in BATCHED.values()]
    for i, (f, given) in enumerate(cases):
        guards, dtype = Guarded(), DTYPES[i % 2]
        arrays = [np.asarray(a) for a in given]
        arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
        arrays = [guards.copy(a) for a in arrays]
        graph = capture(f, [cr.Tensor(a) for a in arrays])
        machine = build(graph).machine
        n = graph.batch or 0
        first = machine.run(arrays, n)
        places = {}
        for node in machine._arena_nodes:
            view = machine.view(node, n)
            slot = machine.layout.buffers[node]
            places[slot] = guards.empty(view.shape, view.dtype).ctypes.data
            machine._context[slot] = places[slot]
        for y, e in zip(machine.run(arrays, n), first, strict=True):
            np.testing.assert_array_equal(y, e)
        assert all(machine._context[slot] == place for slot, place in places.items())


@pytest.mark.skipif(not hasattr(mmap, "PAGESIZE") or sys.platform == "win32",
                    reason="needs mprotect")  # fmt: skip
@pytest.mark.parametrize("target", usable_targets())
def test_nothing_outside_of_a_buffer_is_touched(target, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    monkeypatch.setenv("CHAINRULE_TARGET", target)
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    run_between_guards()
    train_between_guards()


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "multiclass_hinge"])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_out_of_range_is_an_error_below_zero_too(loss, label):
    scores = np.arange(12, dtype=np.float32).reshape(4, 3)
    compiled = cr.compile(getattr(cr.nn, loss))
    assert np.isfinite(compiled(scores, np.array([0, 2, 1, 2])).item())
    with pytest.raises(cr.errors.IndexingError, match="out of range"):
        compiled(scores, np.array([0, 2, 1, label]))
