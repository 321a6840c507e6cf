"""The three ways to a derivative side by side: numerical, symbolic, automatic."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from chainrule.autodiff import grad, numerical_gradient, symbolic_gradient
from chainrule.autodiff.numerical import check_step, step_errors
from chainrule.autodiff.point import Point
from chainrule.autodiff.structure import flatten
from chainrule.autodiff.symbolic import SymbolicGradient
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.spec import FLOAT64
from chainrule.errors import (
    ChainruleError,
    GradientError,
    MissingDependencyError,
    NonFiniteError,
)
from chainrule.explanation.equations.side_by_side import Derivatives, Way
from chainrule.explanation.notation import number

__all__ = ["derivatives"]

Array = np.ndarray[Any, Any]

_MAX_MOVED = 10_000  # numbers that are moved one at a time


def derivatives(f: Callable[..., Any], at: Any, *, h: float = 1e-6) -> Derivatives:
    """Differentiate numerically (forward, central), symbolically and automatically.

    In float64. A numerical derivative runs the function once or twice for each number,
    an automatic one runs it once. The time of the symbolic one includes finding the
    formula. A way that cannot be gone says why: SymPy takes at most 64 numbers.

    Args:
        f: a function of tensors that returns one number.
        at: where: a number, an array, a tuple of them for several arguments, or a
            mapping of names, by which f then takes them.
        h: the step of the differences in the table; ``curve`` has all others.

    Raises:
        GradientError: if f does not return one number.
        NonFiniteError: if it is NaN or infinite there.
        OptionError: for h ≤ 0, or no numbers.

    Example:
        >>> found = derivatives(lambda x: x ** 2, at=3.0)
        >>> [way.num_runs for way in found.ways]
        [2, 2, 1, 1]
        >>> found.formulas, found.gradient
        (['2*x'], array([6.]))

    Source: toronto and stanford, "generally there are 3 options"; aarhus.
    """
    check_step("derivatives", h)
    point = Point.of(at, f)
    with suppress(ImportError):  # what it costs is not the derivative's
        import sympy  # noqa: F401
    value = _value(point.call, f, point.row)
    num_runs = 0

    def noted(*arguments: Any, **named: Any) -> Any:
        nonlocal num_runs
        num_runs += 1
        return f(*arguments, **named)

    symbolic: SymbolicGradient | None = None

    def numerical(method: str) -> Array:
        joined = Tensor(point.row)
        return numerical_gradient(
            lambda x: point.call(noted, x), joined, h, method
        ).data

    def by_formula() -> Array:
        nonlocal symbolic
        arrays = point.arrays
        parts, named = ((), arrays) if point.is_named else (arrays.values(), {})
        symbolic = _symbolic(noted, point, parts, named)
        return symbolic.evaluate(*arrays.values())

    def automatic() -> Array:
        parts = tuple(map(Tensor, point.arrays.values()))
        found = grad(lambda parts: point.apply(noted, parts))(parts)
        return np.concatenate([t.data.reshape(-1) for t in flatten(found)[0]])

    tried: dict[str, Callable[[], Array]] = {
        "numerical (forward)": lambda: numerical("forward"),
        "numerical (central)": lambda: numerical("central"),
        "symbolic": by_formula,
        "automatic": automatic,
    }
    gone: dict[str, Way] = {}
    for method, go in tried.items():
        if method.startswith("numerical") and point.size > _MAX_MOVED:
            note = f"{point.size:,} numbers would each be moved"
            gone[method] = Way(method, None, np.nan, 0, 0.0, note)
            continue
        num_runs, start = 0, time.perf_counter()
        try:
            gradient = go()
        except (ChainruleError, MissingDependencyError) as error:
            if method != "symbolic":
                raise
            note = f"{error.what}: {error.got}"
            gone[method] = Way(method, None, np.nan, 0, 0.0, note)
            continue
        time_s = time.perf_counter() - start
        gone[method] = Way(method, gradient, np.nan, num_runs, time_s)
    return _compared(point, f, value, gone, symbolic)


def _symbolic(
    f: Callable[..., Any], point: Point, parts: Any, named: Any
) -> SymbolicGradient:
    """Named as the point's arguments are, whatever the counting function hides."""
    if named:
        return symbolic_gradient(f, **named)
    names = list(point.arrays)
    return symbolic_gradient(
        lambda **by_name: f(*(by_name[n] for n in names)),
        **dict(zip(names, parts, strict=True)),
    )


@np.errstate(all="ignore")  # a slope may be infinite
def _compared(
    point: Point,
    f: Callable[..., Any],
    value: float,
    gone: dict[str, Way],
    symbolic: SymbolicGradient | None,
) -> Derivatives:
    """The ways with their errors, and how the step matters where the slope is most."""
    found = gone["symbolic"].gradient
    is_exact = found is not None and bool(np.isfinite(found).all())
    reference = "symbolic" if is_exact else "automatic"
    exact = gone[reference].gradient
    assert exact is not None
    size = float(np.abs(exact).max()) or 1.0
    ways = [
        way
        if way.gradient is None
        else way._replace(error=float(np.abs(way.gradient - exact).max()) / size)
        for way in gone.values()
    ]
    steepest = int(np.abs(exact).argmax())
    row = point.row

    def moved(t: float) -> float:
        there = row.copy()
        there[steepest] += t
        with no_grad(), np.errstate(all="ignore"):
            y = as_tensor(point.call(f, there), FLOAT64)
        return float(y.item())

    slope = float(exact[steepest])
    return Derivatives(
        tuple(point.labels),
        value,
        tuple(ways),
        reference,
        symbolic,
        point.labels[steepest],
        step_errors(moved, slope),
        float(np.finfo(FLOAT64).eps) * max(abs(value), 1e-300) / (abs(slope) or 1.0),
    )


def _value(call: Callable[..., Any], f: Callable[..., Any], row: Array) -> float:
    """f at the point; raises where that is not one finite number."""
    with no_grad():
        y = as_tensor(call(f, row), FLOAT64)
    if y.size != 1:
        raise GradientError(
            "derivatives: the function does not return one number",
            got=y.spec,
            expected="a single element",
            hint="reduce with sum() or mean(), or use jacobian",
        )
    if not np.isfinite(y.item()):
        raise NonFiniteError(
            "derivatives: the function is not finite here",
            got=number(float(y.item())),
            expected="a finite number at the point where it is differentiated",
        )
    return float(y.item())
