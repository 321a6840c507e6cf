"""The three ways to a derivative, side by side."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from chainrule.autodiff.derivatives import grad
from chainrule.autodiff.numerical import numerical_gradient
from chainrule.autodiff.structure import flatten
from chainrule.autodiff.symbolic import symbolic_gradient
from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.spec import FLOAT64

__all__ = ["DerivativeComparison", "DerivativeRow", "compare_derivatives"]


class DerivativeRow(NamedTuple):
    """One way to the derivative."""

    method: str
    gradient: np.ndarray[Any, Any]
    """∂f/∂x for each element of the inputs, in their order."""
    error: float
    """The largest difference from the symbolic derivative, relative to its largest."""
    num_runs: int
    """How often the function was run."""
    time_s: float


class DerivativeComparison(NamedTuple):
    """What ``compare_derivatives`` found; prints as a table."""

    rows: list[DerivativeRow]
    formulas: list[str]
    """The symbolic derivatives."""

    def __str__(self) -> str:
        lines = [f"{'method':<20}  {'error':>8}  {'runs':>5}  {'time':>10}  gradient"]
        for row in self.rows:
            numbers = ", ".join(f"{g:.6g}" for g in row.gradient[:4])
            more = ", ..." if len(row.gradient) > 4 else ""
            lines.append(
                f"{row.method:<20}  {row.error:>8.1e}  {row.num_runs:>5}  "
                f"{row.time_s * 1e3:>7.2f} ms  {numbers}{more}"
            )
        return "\n".join(lines)


def compare_derivatives(
    f: Callable[..., Any], *inputs: Any, h: float = 1e-6
) -> DerivativeComparison:
    """Differentiate numerically (forward, central), symbolically and automatically.

    In float64. The symbolic derivative, evaluated with 30 digits, is what the errors
    are measured from; its time includes finding the formula. A numerical derivative
    runs the function once or twice for each element, an automatic one runs it once.

    Raises what ``symbolic_gradient`` raises: OptionError for more than 64 elements.

    Example:
        >>> found = compare_derivatives(lambda x: x ** 2, 3.0)
        >>> [row.num_runs for row in found.rows]
        [2, 2, 1, 1]

    Source: toronto and stanford, "generally there are 3 options"; aarhus.
    """
    points = [as_tensor(x, FLOAT64) for x in inputs]
    num_runs = 0
    formulas: list[str] = []

    @functools.wraps(f)
    def counted(*arguments: Any) -> Any:
        nonlocal num_runs
        num_runs += 1
        return f(*arguments)

    def flat(arguments: Any) -> np.ndarray[Any, Any]:
        return np.concatenate([t.data.reshape(-1) for t in flatten(arguments)[0]])

    def numerical(method: str) -> np.ndarray[Any, Any]:
        joined = Tensor(flat(points))
        return numerical_gradient(
            lambda x: counted(*_split(x, points)), joined, h, method
        ).data

    def symbolic() -> np.ndarray[Any, Any]:
        nonlocal formulas
        found = symbolic_gradient(counted, *points)
        formulas = [str(d) for d in found.derivatives]
        return found.evaluate(*points)

    def automatic() -> np.ndarray[Any, Any]:
        return flat(grad(counted, tuple(range(len(points))))(*points))

    ways: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
        "numerical (forward)": lambda: numerical("forward"),
        "numerical (central)": lambda: numerical("central"),
        "symbolic": symbolic,
        "automatic": automatic,
    }
    timed = []
    for name, method in ways.items():
        num_runs = 0
        start = time.perf_counter()
        gradient = method()
        timed.append((name, gradient, num_runs, time.perf_counter() - start))
    exact = timed[2][1]
    size = max(float(np.abs(exact).max()), np.finfo(FLOAT64).tiny)
    rows = [
        DerivativeRow(name, g, float(np.abs(g - exact).max()) / size, runs, time_s)
        for name, g, runs, time_s in timed
    ]
    return DerivativeComparison(rows, formulas)


def _split(x: Tensor, like: list[Tensor]) -> list[Tensor]:
    """A vector cut into tensors of the shapes of others."""
    parts, start = [], 0
    for t in like:
        parts.append(x[start : start + t.size].reshape(t.shape))
        start += t.size
    return parts
