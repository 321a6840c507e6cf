"""Programs on disk: a later process runs what an earlier one made, to the bit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler import cache, kept

Step = Callable[..., Any]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("CHAINRULE_CACHE", raising=False)
    return tmp_path / "native"


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng([*shape]).normal(size=shape).astype("float32")


def labels(count: int, most: int = 4) -> np.ndarray[Any, Any]:
    return np.arange(count) % most


def training(model: nn.Module, name: str) -> Step:
    model.initialize(0)
    chosen = optim.optimizer(name, model.named_parameters(), lr=0.01)

    def step(x: Any, y: Any) -> Any:
        loss = nn.softmax_cross_entropy(model(x), y)
        loss.backward()
        chosen.step()
        chosen.zero_grad()
        return loss

    return step


def convolutional() -> Step:
    return training(
        nn.Sequential(
            nn.Conv(1, 16, 3, padding="same"), nn.BatchNorm(16), nn.ReLU(),
            nn.Conv(16, 20, 5, padding="same"), nn.ReLU(), nn.MaxPool(2),
            nn.Dropout(0.3), nn.Flatten(), nn.Dense(20 * 16, 4),
        ), "adam",
    )  # fmt: skip


def picked() -> Step:
    step = training(nn.mlp(12, [9], 4), "momentum")
    pictures, answers = normal(50, 12), labels(50)
    return lambda rows: step(cr.as_tensor(pictures)[rows], cr.as_tensor(answers)[rows])


def exchanging() -> Step:
    """Assignments that have to wait for one another."""
    a, b = cr.Buffer(normal(5)), cr.Buffer(normal(5) + 1)

    def step(x: Any) -> Any:
        before = a * 1
        cr.assign(a, b + x.sum())
        cr.assign(b, before)
        return a, b

    return step


def in_numpy() -> Step:
    class Cube(cr.Gate):
        def forward(self, x: cr.Tensor) -> Any:
            return np.asarray(x.data) ** 3

        def backward(self, x: cr.Tensor, y: cr.Tensor, z: cr.Tensor) -> Any:
            return 3 * x**2 * z

    return lambda x: (Cube()(cr.tanh(x)) * 2).sum(axis=1)


CASES: dict[str, tuple[Callable[[], Step], list[Any]]] = {
    "convolutional": (convolutional, [normal(9, 8, 8, 1), labels(9)]),
    "by blocks": (
        lambda: training(nn.mlp(12, [9, 8], 4), "momentum"),
        [normal(100, 12), labels(100)],
    ),
    "picked rows": (picked, [np.arange(30)]),
    "exchanging": (exchanging, [normal(3)]),
    "in NumPy": (in_numpy, [normal(6, 3)]),
    "running sums": (lambda: lambda x: cr.cumsum(x, 1), [normal(4, 5)]),
    "a softmax": (lambda: lambda x: cr.softmax(x * 3 - 1), [normal(7, 3)]),
}


def three_calls(step: Step, given: list[Any]) -> tuple[Any, list[Any]]:
    compiled = cr.compile(step)
    found = []
    for _ in range(3):
        y = compiled(*given)
        found += [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]
    return compiled, found


@pytest.mark.parametrize("name", CASES)
def test_what_comes_from_the_disk_is_the_same_program(name: str) -> None:
    make, given = CASES[name]
    first, expected = three_calls(make(), given)
    again, found = three_calls(make(), given)
    assert (first.report().is_cached, again.report().is_cached) == (False, True)
    for y, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(y, e)
    assert again.report().kernels == first.report().kernels
    for text in ("fuse", "memory", "llvm"):
        assert again.text(text) == first.text(text)


def test_another_process_finds_it_and_makes_no_kernels() -> None:
    script = """
import numpy as np, chainrule as cr
f = cr.compile(lambda x, w: cr.relu(cr.conv(x, w, padding=1)) * 0.5)
y = f(np.ones((3, 8, 8, 16), "f"), np.full((3, 3, 16, 16), 0.1, "f"))
print(sorted(f.report().times_s), float(y.sum().item()).hex())
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env=dict(os.environ),
        ).stdout.split("] ")
        for _ in range(2)
    ]  # fmt: skip
    assert "'llvm'" in runs[0][0]
    assert not {"'fuse'", "'kernels'", "'llvm'"} & set(runs[1][0][1:].split(", "))
    assert runs[0][1] == runs[1][1]


DIFFERENT: dict[str, tuple[Step, tuple[int, ...]]] = {
    "as it is": (lambda x: cr.max_pool(x * 2, 2).sum(axis=3), (3, 8, 8, 16)),
    "another number": (lambda x: cr.max_pool(x * 3, 2).sum(axis=3), (3, 8, 8, 16)),
    "another op": (lambda x: cr.max_pool(x + 2, 2).sum(axis=3), (3, 8, 8, 16)),
    "another window": (lambda x: cr.max_pool(x * 2, 4).sum(axis=3), (3, 8, 8, 16)),
    "another axis": (lambda x: cr.max_pool(x * 2, 2).sum(axis=2), (3, 8, 8, 16)),
    "a mean": (lambda x: cr.max_pool(x * 2, 2).mean(axis=3), (3, 8, 8, 16)),
    "another pool": (lambda x: cr.average_pool(x * 2, 2).sum(axis=3), (3, 8, 8, 16)),
    "another size": (lambda x: cr.max_pool(x * 2, 2).sum(axis=3), (3, 8, 10, 16)),
    "another batch": (lambda x: cr.max_pool(x * 2, 2).sum(axis=3), (4, 8, 8, 16)),
    "more outputs": (
        lambda x: (cr.max_pool(x * 2, 2).sum(axis=3), x * 2), (3, 8, 8, 16),
    ),
}  # fmt: skip


def test_whatever_differs_has_a_program_of_its_own() -> None:
    for name, (f, shape) in DIFFERENT.items():
        compiled = cr.compile(f)
        found = compiled(normal(*shape))
        assert not compiled.report().is_cached, name
        expected = f(cr.Tensor(normal(*shape)))
        for y, e in zip(_all(found), _all(expected), strict=True):
            np.testing.assert_allclose(y, e, rtol=1e-5, atol=1e-5)


def _all(y: Any) -> list[Any]:
    return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]


def test_names_do_not_matter() -> None:
    shapes = (normal(3, 4),)
    cr.compile(lambda first: first * 2 + 1)(*shapes)
    second = cr.compile(lambda other: other * 2 + 1)
    second(*shapes)
    assert second.report().is_cached


def test_what_has_no_text_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_UNSIGNED", ("name", "source"))
    make, given = CASES["in NumPy"]
    for _ in range(2):
        compiled, _ = three_calls(make(), given)
        assert not compiled.report().is_cached


def test_without_a_folder_nothing_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    assert not cache.is_used()
    monkeypatch.setattr(kept, "signature", pytest.fail)
    compiled, _ = three_calls(*[CASES["a softmax"][0](), CASES["a softmax"][1]])
    assert not compiled.report().is_cached
