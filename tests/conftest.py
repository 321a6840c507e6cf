"""What several contracts share: native code is held against NumPy."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.backward import gradients

Results = list[np.ndarray[Any, Any]]


def tensors_in(value: Any) -> list[cr.Tensor]:
    """The tensors of a nested result, in order."""
    if isinstance(value, (tuple, list)):
        return [t for part in value for t in tensors_in(part)]
    return [value] if isinstance(value, cr.Tensor) else []


def with_gradients(f: Callable[..., Any]) -> Callable[..., list[cr.Tensor]]:
    """f's results, and the gradients of Σ y² + Σ sin y of each y by the arguments."""

    def both(*given: cr.Tensor) -> list[cr.Tensor]:
        xs = [x.detach() for x in given]
        for x in xs:
            x.requires_grad = x.dtype.kind == "f"
        results = tensors_in(f(*xs))
        own = [y for y in results if y.requires_grad and y.dtype.kind == "f"]
        leaves = [x for x in xs if x.requires_grad]
        if not own:
            return results
        terms = [((y * y).sum() + cr.sin(y).sum()).astype("float64") for y in own]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return [*results, *gradients(total, leaves)]

    return both


def check_close(
    found: Results, eager: Results, exact: Results, least: float = 0.0
) -> None:
    """Integers are equal; a float's error is at most 4 times eager's, or rounding.

    Both errors are against ``exact``, which was computed in float64. Rounding is that
    of the largest number, or of ``least`` where larger ones cancel on the way.
    """
    assert len(found) == len(eager)
    for y, e, x in zip(found, eager, exact, strict=True):
        assert (y.dtype, y.shape) == (e.dtype, e.shape)
        if y.dtype.kind != "f":
            np.testing.assert_array_equal(y, e)
            continue
        dtype, is_finite = y.dtype, np.isfinite(e)
        np.testing.assert_array_equal(y[~is_finite], e[~is_finite])
        y, e, x = (a[is_finite].astype("float64") for a in (y, e, x))
        if y.size:
            size = max(np.abs(x).max(), np.abs(e).max(), least)
            # Eager's own float64 is no more exact than ours: it is given more room.
            steps = 64 if dtype == np.float64 else 8
            rounding = steps * np.finfo(dtype).eps * size + np.finfo(dtype).tiny
            allowed = 4 * np.abs(e - x).max() + rounding
            assert np.abs(y - x).max() <= allowed


class Agreement:
    """Functions of tensors, compiled and eager."""

    def check(
        self,
        f: Callable[..., Any],
        arrays: Sequence[Any],
        dtype: str = "float64",
        least: float = 0.0,
    ) -> Any:
        """Values and gradients agree, all in native code; the compiled function."""
        compiled = cr.compile(with_gradients(f))
        self.check_again(compiled, f, arrays, dtype, least)
        assert compiled.report().through_compute == []
        return compiled

    def check_again(
        self,
        compiled: Any,
        f: Callable[..., Any],
        arrays: Sequence[Any],
        dtype: str = "float64",
        least: float = 0.0,
    ) -> None:
        """A function that was compiled agrees on further arguments."""
        own, wide = ([self._as(a, d) for a in arrays] for d in (dtype, "float64"))
        both = with_gradients(f)
        with np.errstate(all="ignore"):
            eager, exact = ([t.data for t in both(*map(cr.Tensor, a))]
                            for a in (own, wide))  # fmt: skip
            found = [t.data for t in compiled(*map(cr.Tensor, own))]
        check_close(found, eager, exact, least)

    @staticmethod
    def _as(array: Any, dtype: str) -> Any:
        array = np.asarray(array)
        return array.astype(dtype) if array.dtype.kind == "f" else array

    close = staticmethod(check_close)


@pytest.fixture
def agreement(monkeypatch: pytest.MonkeyPatch) -> Agreement:
    """Native code against NumPy; without a disk cache, so that all is compiled."""
    if importlib.util.find_spec("llvmlite") is None:
        pytest.skip("native code needs llvmlite")
    monkeypatch.setenv("CHAINRULE_CACHE", "off")
    return Agreement()
