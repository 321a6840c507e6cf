"""Derivatives by differences: easy to write, approximate, one or two runs per weight.

They serve to check the other kinds, and are computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.spec import FLOAT64, is_float
from chainrule.errors import DtypeError, GradientError, OptionError

__all__ = ["DifferenceTable", "difference_table", "numerical_gradient"]

Function = Callable[[Tensor], Any]


def _number(f: Function, x: np.ndarray[Any, Any]) -> float:
    """f at one point; f receives a copy, since it may keep what it is given."""
    with no_grad():
        y = as_tensor(f(Tensor(x)), FLOAT64)
    if y.size != 1:
        raise GradientError(
            "numerical_gradient: the function does not return one number",
            got=y.spec,
            expected="a single element",
            hint="reduce with sum() or mean()",
        )
    return float(y.item())


def _point(x: Any) -> np.ndarray[Any, Any]:
    given = as_tensor(x)
    if not is_float(given.dtype):
        raise DtypeError(
            "numerical_gradient: only floats have derivatives",
            got=given.spec,
            expected="float32 or float64",
        )
    return given.data.astype(FLOAT64)


def _moved(x: np.ndarray[Any, Any], h: float) -> Iterator[np.ndarray[Any, Any]]:
    """x with one entry after the other moved by h."""
    for i in range(x.size):
        other = x.copy()
        other.flat[i] += h
        yield other


def numerical_gradient(
    f: Function, x: Any, h: float = 1e-6, method: str = "central"
) -> Tensor:
    """∂f/∂x by moving one entry of x at a time, in float64.

    central: (f(x + h) - f(x - h)) / 2h, error of order h², 2n runs of f;
    forward: (f(x + h) - f(x)) / h, error of order h, n + 1 runs.

    Raises:
        OptionError: for another method, or h ≤ 0.
        GradientError: if f does not return one number.

    Example:
        >>> g = numerical_gradient(lambda x: x * x, 3.0)
        >>> round(g.item(), 6)
        6.0

    Source: stanford (h = 10⁻⁶), intellivision (h = 10⁻⁴), numerical differentiation.
    """
    if method not in ("central", "forward"):
        raise OptionError.unknown("difference method", method, ["central", "forward"])
    if not h > 0:
        raise OptionError("numerical_gradient: no step", got=f"h={h}", expected="h > 0")
    point = _point(x)
    right = np.array([_number(f, p) for p in _moved(point, h)], FLOAT64)
    if method == "central":
        left = np.array([_number(f, p) for p in _moved(point, -h)], FLOAT64)
        slopes = (right - left) / (2 * h)
    else:
        slopes = (right - _number(f, point)) / h
    return Tensor(slopes.reshape(point.shape))


class DifferenceTable(NamedTuple):
    """The lectures' "W + h" table: one entry moved at a time, and what the loss did."""

    loss: float
    h: float
    entries: list[tuple[int, ...]]
    values: list[float]
    losses: list[float]
    """The loss with that entry moved by h."""

    @property
    def slopes(self) -> list[float]:
        """(L(W + h) - L(W)) / h for each entry."""
        return [(moved - self.loss) / self.h for moved in self.losses]

    def __str__(self) -> str:
        rows = [f"L(W) = {self.loss:.5f},  h = {self.h:g}"]
        rows.append(f"{'entry':>10}  {'W':>10}  {'L(W + h)':>10}  {'dL/dW':>10}")
        for entry, value, loss, slope in zip(
            self.entries, self.values, self.losses, self.slopes, strict=True
        ):
            place = ", ".join(map(str, entry))
            rows.append(
                f"{f'W[{place}]':>10}  {value:>10g}  {loss:>10.5f}  {slope:>10.4g}"
            )
        return "\n".join(rows)


def difference_table(
    f: Function, w: Any, h: float = 1e-4, max_entries: int = 10
) -> DifferenceTable:
    """Move the first entries of w by h, one at a time, and list what f becomes.

    Example:
        >>> import chainrule as cr
        >>> print(difference_table(lambda w: (w * w).sum(), cr.Tensor([0.5, -1.0])))
        L(W) = 1.25000,  h = 0.0001
             entry           W    L(W + h)       dL/dW
              W[0]         0.5     1.25010           1
              W[1]          -1     1.24980          -2

    Source: intellivision, the slides "W + h (first dim)" and following.
    """
    point = _point(w)
    entries = list(np.ndindex(point.shape))[:max_entries]
    losses = [_number(f, p) for p, _ in zip(_moved(point, h), entries, strict=False)]
    values = [float(point[e]) for e in entries]
    return DifferenceTable(_number(f, point), h, entries, values, losses)
