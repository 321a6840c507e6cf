"""Scalar expressions made short enough to read: numbers gathered, zeros gone."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.core import scalar
from chainrule.core.scalar import Expr

__all__ = ["simplify"]


def simplify(expression: Expr) -> Expr:
    """An equal expression with constants multiplied out and neutral parts dropped.

    Example:
        >>> from chainrule.core.scalar import formula, symbol
        >>> y = symbol("y")
        >>> formula(simplify(0.5 * ((y - 3) * 2) * 1 + 0 * y))
        'y - 3'
    """
    table = {kind: _maker(kind) for kind in scalar.PRIMITIVES}
    names = {name: scalar.symbol(name) for name in scalar.symbols(expression)}
    return scalar.fold(expression, table, names, scalar.constant)


def _maker(kind: str) -> Callable[..., Expr]:
    rules: dict[str, Callable[..., Expr]] = {
        "add": _add,
        "subtract": _subtract,
        "multiply": _multiply,
        "divide": _divide,
        "negative": lambda x: _multiply(scalar.constant(-1.0), x),
        "power": _power,
    }
    return rules.get(kind, lambda *args: Expr(kind, args))


def _number(x: Expr) -> float | None:
    return x.value if x.kind == "constant" else None


def _add(x: Expr, y: Expr) -> Expr:
    a, b = _number(x), _number(y)
    if a is not None and b is not None:
        return scalar.constant(a + b)
    if a == 0:
        return y
    if b == 0:
        return x
    if y.kind == "negative":
        return x - y.args[0]
    if x is y or (x.name and x.name == y.name):
        return _multiply(scalar.constant(2.0), x)
    return x + y


def _subtract(x: Expr, y: Expr) -> Expr:
    a, b = _number(x), _number(y)
    if a is not None and b is not None:
        return scalar.constant(a - b)
    if b == 0:
        return x
    return _multiply(scalar.constant(-1.0), y) if a == 0 else x - y


def _multiply(x: Expr, y: Expr) -> Expr:
    """The product as number · rest, with at most one number in front."""
    a, rest_x = _split(x)
    b, rest_y = _split(y)
    factor = a * b
    if rest_x is None or rest_y is None:
        rest = rest_y if rest_x is None else rest_x
    else:
        rest = rest_x * rest_y
    if factor == 0 or rest is None:
        return scalar.constant(factor)
    if factor == 1:
        return rest
    return -rest if factor == -1 else scalar.constant(factor) * rest


def _split(x: Expr) -> tuple[float, Expr | None]:
    """(number, rest) whose product the expression is."""
    if x.kind == "constant":
        return x.value, None
    if x.kind == "negative":
        number, rest = _split(x.args[0])
        return -number, rest
    if x.kind == "multiply" and x.args[0].kind == "constant":
        return x.args[0].value, x.args[1]
    return 1.0, x


def _divide(x: Expr, y: Expr) -> Expr:
    b = _number(y)
    if b is not None and b != 0:
        return _multiply(scalar.constant(1.0 / b), x) if b != 1 else x
    return x if _number(x) == 0 else x / y


def _power(x: Expr, y: Expr) -> Expr:
    if _number(y) == 1:
        return x
    return scalar.constant(1.0) if _number(y) == 0 else scalar.power(x, y)
