"""Derivatives by differences: easy to write, approximate, one or two runs per weight.

They serve to check the other kinds, and are computed in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule.autodiff.point import Point
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.spec import FLOAT64, is_float
from chainrule.errors import DtypeError, GradientError, OptionError

__all__ = [
    "DifferenceTable",
    "StepErrors",
    "difference_table",
    "numerical_gradient",
    "step_errors",
]

Array = np.ndarray[Any, Any]
Function = Callable[[Tensor], Any]


def _number(f: Function, x: Array) -> float:
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


def _point(x: Any) -> Array:
    given = as_tensor(x)
    if not is_float(given.dtype):
        raise DtypeError(
            "numerical_gradient: only floats have derivatives",
            got=given.spec,
            expected="float32 or float64",
        )
    return given.data.astype(FLOAT64)


def _moved(x: Array, h: float) -> Iterator[Array]:
    """x with one entry after the other moved by h."""
    for i in range(x.size):
        other = x.copy()
        other.flat[i] += h
        yield other


def check_step(name: str, h: float) -> None:
    """Raise OptionError for what is no step."""
    if not 0 < h < np.inf:
        raise OptionError(f"{name}: no step", got=f"h={h}", expected="h > 0")


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
    check_step("numerical_gradient", h)
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
    entries: list[str]
    """What is moved: ``W[0]``, ``w1``."""
    values: list[float]
    losses: list[float]
    """The loss with that entry moved by h."""

    @property
    def slopes(self) -> list[float]:
        """(L(W + h) - L(W)) / h for each entry."""
        return [(moved - self.loss) / self.h for moved in self.losses]

    @property
    def _digits(self) -> int:
        """Decimals with which every change, rounding aside, can be seen."""
        changes = np.abs(np.array(self.losses) - self.loss)
        seen = changes[changes > 1e-10 * max(1.0, abs(self.loss))]
        finest = -np.log10(seen.min()) if seen.size else 0.0
        return int(np.clip(np.ceil(finest), 5, 12))

    def __str__(self) -> str:
        digits = self._digits
        wide = max(10, digits + 5)
        rows = [f"L(W) = {self.loss:.{digits}f},  h = {self.h:g}"]
        rows.append(f"{'entry':>10}  {'W':>10}  {'L(W + h)':>{wide}}  {'dL/dW':>10}")
        for entry, value, loss, slope in zip(
            self.entries, self.values, self.losses, self.slopes, strict=True
        ):
            rows.append(
                f"{entry:>10}  {value:>10g}  {loss:>{wide}.{digits}f}  {slope:>10.4g}"
            )
        return "\n".join(rows)


def difference_table(
    f: Callable[..., Any], at: Any, h: float = 1e-4, max_entries: int = 10
) -> DifferenceTable:
    """Move the first entries by h, one at a time, and list what f becomes.

    Args:
        f: returns one number.
        at: a number, an array (the lectures' W), a tuple of them, or a mapping of
            names, by which f then takes them.
        h: the step.
        max_entries: how many numbers to move.

    Raises:
        OptionError: for h ≤ 0.
        GradientError: if f does not return one number.

    Example:
        >>> import chainrule as cr
        >>> print(difference_table(lambda w: (w * w).sum(), cr.Tensor([0.5, -1.0])))
        L(W) = 1.25000,  h = 0.0001
             entry           W    L(W + h)       dL/dW
              W[0]         0.5     1.25010           1
              W[1]          -1     1.24980          -2

    Source: intellivision, the slides "W + h (first dim)" and following.
    """
    check_step("difference_table", h)
    is_one = not isinstance(at, tuple)
    point = Point.of(at, None if is_one else f, "W")
    row = point.row
    losses = [
        _number(lambda x: point.call(f, x), moved)
        for moved in itertools.islice(_moved(row, h), max_entries)
    ]
    return DifferenceTable(
        _number(lambda x: point.call(f, x), row),
        h,
        point.labels[:max_entries],
        row[:max_entries].tolist(),
        losses,
    )


class StepErrors(NamedTuple):
    """How wrong a numerical derivative is, by the step: the two errors that meet."""

    steps: Array
    forward: Array
    """The error for each step; NaN where the function was not finite."""
    central: Array

    def best(self, method: str) -> tuple[float, float]:
        """(step, error) where the error is smallest."""
        errors = self.forward if method == "forward" else self.central
        i = int(np.nanargmin(errors)) if np.isfinite(errors).any() else 0
        return float(self.steps[i]), float(errors[i])


_STEPS = 10.0 ** np.arange(-14, -0.9, 0.25)


def step_errors(
    f: Callable[[float], float], slope: float, steps: Any = _STEPS
) -> StepErrors:
    """The error of forward and central differences of f(t) at t = 0, step by step.

    Relative to the slope, unless that is 0.

    Example:
        >>> import math
        >>> found = step_errors(lambda t: math.exp(1 + t), math.e)
        >>> found.best("forward")[0] < 1e-6 < found.best("central")[0]
        True

    Source: stanford, numerical differentiation; Nocedal & Wright, "Numerical
    optimization", 2006, section 8.1.
    """
    steps = np.asarray(steps, FLOAT64)
    here, size = f(0.0), abs(slope) or 1.0
    ahead = np.array([f(h) for h in steps])
    behind = np.array([f(-h) for h in steps])
    with np.errstate(all="ignore"):
        forward = np.abs((ahead - here) / steps - slope) / size
        central = np.abs((ahead - behind) / (2 * steps) - slope) / size
    finite = [np.where(np.isfinite(e), e, np.nan) for e in (forward, central)]
    return StepErrors(steps, *finite)
