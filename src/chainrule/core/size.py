"""The batch size as a symbol, and what Python makes of it while a function is captured.

A captured function is to run on batches of any size, but it is Python that ran once, on
one of them. Sums and multiples of the size stay symbols. Where Python needs the number
itself, a *guard* notes what came out: the capture serves the sizes for which the same
would come out again.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chainrule.core import scalar
from chainrule.core.scalar import Expr

__all__ = [
    "Batch",
    "Guard",
    "Number",
    "Shape",
    "Size",
    "at",
    "at_capture",
    "square_root",
]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
}
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "negative": operator.neg,
    "sqrt": math.sqrt,
}
_OPPOSITE = {
    "equal": "not_equal",
    "not_equal": "equal",
    "less": "greater_equal",
    "less_equal": "greater",
    "greater": "less_equal",
    "greater_equal": "less",
}


@dataclass(frozen=True)
class Guard:
    """Something that was true of the captured batch size and decided what Python did.

    Example:
        >>> guard = Guard(Size(Batch(64), 2, 1), "greater", 5)
        >>> str(guard), guard.holds(3), guard.holds(2)
        ('2·n + 1 > 5', True, False)
    """

    left: Number
    comparison: str
    right: Any

    def holds(self, n: int) -> bool:
        """Whether it is true of another batch size."""
        try:
            return _COMPARE[self.comparison](at(self.left, n), at(self.right, n))
        except ZeroDivisionError:
            return False

    def __str__(self) -> str:
        sides = (_expression(self.left), _expression(self.right))
        return scalar.formula(scalar.compare(self.comparison, *sides))


@dataclass
class Batch:
    """The leading axis of a function's inputs: its size at capture, and the guards."""

    value: int
    is_open: bool = True
    """Whether the capture goes on. Afterwards sizes are equal if they always are."""
    guards: dict[str, Guard] = field(default_factory=dict)

    def note(self, left: Number, comparison: str, right: Any, outcome: bool) -> None:
        """Keep a comparison's outcome, if it may be another for another n."""
        if not self.is_open:
            return
        guard = Guard(left, comparison if outcome else _OPPOSITE[comparison], right)
        self.guards.setdefault(str(guard), guard)


class Number:
    """A Python number that depends on the batch size n: (n + 1) / 2, say.

    Not a subclass of int or float: Python and NumPy would read those without asking.
    """

    __slots__ = ("batch", "expression", "value")
    # Else NumPy's scalars would read it before it is asked.
    __array_priority__ = 1000.0

    batch: Batch
    expression: Expr
    value: Any
    """What it is for the captured n."""

    def __init__(self, batch: Batch, expression: Expr, value: Any) -> None:
        self.batch = batch
        self.expression = expression
        self.value = value

    def at(self, n: int) -> Any:
        """What it is for another n."""
        symbols: dict[str, Any] = {"n": n}
        return scalar.fold(self.expression, _ARITHMETIC, symbols, lambda value: value)

    def pinned(self) -> Any:
        """The plain number; the capture then serves no n for which it is another."""
        self.batch.note(self, "equal", self.value, True)
        return self.value

    def __index__(self) -> int:
        return operator.index(self.pinned())

    def __int__(self) -> int:
        return int(self.pinned())

    def __float__(self) -> float:
        return float(self.pinned())

    def __round__(self, digits: int | None = None) -> Any:
        return round(self.pinned(), digits)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self.pinned(), dtype)

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.expression} = {self.value})"

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    # Arithmetic.

    def __add__(self, other: Any) -> Any:
        return _combined("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _combined("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _combined("subtract", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _combined("subtract", other, self)

    def __mul__(self, other: Any) -> Any:
        return _combined("multiply", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _combined("multiply", other, self)

    def __truediv__(self, other: Any) -> Any:
        return _combined("divide", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _combined("divide", other, self)

    def __pow__(self, other: Any) -> Any:
        return _combined("power", self, other)

    def __rpow__(self, other: Any) -> Any:
        return _combined("power", other, self)

    def __neg__(self) -> Any:
        return _combined("negative", self)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if self >= 0 else -self

    def __floordiv__(self, other: Any) -> Any:
        return self.pinned() // _plain(other)

    def __rfloordiv__(self, other: Any) -> Any:
        return other // self.pinned()

    def __mod__(self, other: Any) -> Any:
        return self.pinned() % _plain(other)

    def __rmod__(self, other: Any) -> Any:
        return other % self.pinned()

    def __divmod__(self, other: Any) -> Any:
        return divmod(self.pinned(), _plain(other))

    # Comparisons, which leave guards.

    def __eq__(self, other: object) -> Any:
        return _compared("equal", self, other)

    def __ne__(self, other: object) -> Any:
        return _compared("not_equal", self, other)

    def __lt__(self, other: Any) -> Any:
        return _compared("less", self, other)

    def __le__(self, other: Any) -> Any:
        return _compared("less_equal", self, other)

    def __gt__(self, other: Any) -> Any:
        return _compared("greater", self, other)

    def __ge__(self, other: Any) -> Any:
        return _compared("greater_equal", self, other)

    def __bool__(self) -> bool:
        return bool(_compared("not_equal", self, 0))


class Size(Number):
    """The whole number per_batch·n + fixed: the size of an axis, or a count.

    Example:
        >>> n = Size(Batch(64))
        >>> [n * 784 + 1, 2 * n, n * 784 // 784, n - n, 1 / (n * 10)]
        [Size(784·n + 1 = 50177), Size(2·n = 128), Size(n = 64), 0,
         Number(1 / (10·n) = 0.0015625)]
    """

    __slots__ = ("fixed", "per_batch")

    per_batch: int
    fixed: int

    def __init__(self, batch: Batch, per_batch: int = 1, fixed: int = 0) -> None:
        n = scalar.symbol("n")
        scaled = n if per_batch == 1 else per_batch * n
        self.batch = batch
        self.expression = scaled + fixed if fixed else scaled
        self.value = per_batch * batch.value + fixed
        self.per_batch = per_batch
        self.fixed = fixed

    def at(self, n: int) -> int:
        return self.per_batch * n + self.fixed

    def __hash__(self) -> int:
        return hash(self.value)

    def __floordiv__(self, other: Any) -> Any:
        """Exact quotients keep the symbol: 784·n // 784, 784·n // n."""
        if isinstance(other, Size) and other.value:
            quotient = self.per_batch // other.per_batch
            rest = self - quotient * other
            if type(rest) is int and not rest:
                other.batch.note(other, "not_equal", 0, True)
                return quotient
        if _is_whole(other) and other:
            a, left_a = divmod(self.per_batch, int(other))
            b, left_b = divmod(self.fixed, int(other))
            if not left_a and not left_b:
                return _size(self.batch, a, b)
        return super().__floordiv__(other)

    def __mod__(self, other: Any) -> Any:
        if _is_whole(other) and other and not self.per_batch % int(other):
            return self.fixed % int(other)
        return super().__mod__(other)


class Shape(tuple[int, ...]):
    """A shape that may hold Sizes, compared so that few guards are needed."""

    __slots__ = ()

    @classmethod
    def of(cls, sizes: Iterable[Any]) -> Shape:
        return cls(sizes)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, tuple) or len(self) != len(other):
            return False
        pairs = list(zip(self, other, strict=True))
        # What is known of all batch sizes goes first: it may settle the matter.
        return all(a == b for a, b in pairs if not _is_open(a, b)) and all(
            a == b for a, b in pairs if _is_open(a, b)
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)


def _is_open(a: Any, b: Any) -> bool:
    return isinstance(a, Number) or isinstance(b, Number)


def at(value: Any, n: int) -> Any:
    """A number, or numbers inside tuples, for a batch size."""
    if isinstance(value, Number):
        return value.at(n)
    if isinstance(value, tuple):
        return tuple(at(part, n) for part in value)
    return value


def at_capture(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape as plain numbers: those of the captured batch."""
    return tuple(map(_value, shape))


def square_root(value: Any) -> Any:
    """√value of a Python number, or of one that depends on the batch size."""
    return _combined("sqrt", value) if isinstance(value, Number) else math.sqrt(value)


_NUMBERS = (Number, int, float, np.integer, np.floating)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer))


def _plain(value: Any) -> Any:
    return value.pinned() if isinstance(value, Number) else value


def _value(value: Any) -> Any:
    return value.value if isinstance(value, Number) else value


def _expression(value: Any) -> Expr:
    return value.expression if isinstance(value, Number) else scalar.constant(value)


def _coefficients(value: Any) -> tuple[int, int] | None:
    """(a, b) of a·n + b, if it is that."""
    if isinstance(value, Size):
        return value.per_batch, value.fixed
    return (0, int(value)) if _is_whole(value) else None


def _size(batch: Batch, per_batch: int, fixed: int) -> Any:
    return Size(batch, per_batch, fixed) if per_batch else fixed


def _combined(kind: str, *values: Any) -> Any:
    """The arithmetic on numbers of which one is symbolic: a Size if it is affine."""
    if not all(isinstance(v, _NUMBERS) for v in values):
        return NotImplemented
    if any(isinstance(v, np.floating) and not isinstance(v, float) for v in values):
        # NumPy rounds float32 in its own way, which is not repeated here.
        return _ARITHMETIC[kind](*map(_plain, values))
    batch = next(v.batch for v in values if isinstance(v, Number))
    affine = _affine(kind, *map(_coefficients, values))
    if affine is not None:
        return _size(batch, *affine)
    expression = Expr(kind, tuple(map(_expression, values)))
    return Number(batch, expression, _ARITHMETIC[kind](*map(_value, values)))


def _affine(kind: str, *given: tuple[int, int] | None) -> tuple[int, int] | None:
    """(a, b) of the result, if it is a·n + b again."""
    pairs = [pair for pair in given if pair is not None]
    if len(pairs) < len(given):
        return None
    (a, b), (c, d) = pairs[0], pairs[-1]
    if kind == "negative":
        return -a, -b
    if kind == "add":
        return a + c, b + d
    if kind == "subtract":
        return a - c, b - d
    if kind == "multiply" and not (a and c):
        return a * d + b * c, b * d
    return None


def _compared(comparison: str, left: Number, right: Any) -> Any:
    if not isinstance(right, _NUMBERS):
        return NotImplemented
    compare = _COMPARE[comparison]
    ours, theirs = _coefficients(left), _coefficients(right)
    if ours is not None and theirs is not None:
        a, b = ours[0] - theirs[0], ours[1] - theirs[1]
        # n is 0 or more, so that a·n + b has the same sign for all n if b has a's.
        sign = (a > 0) - (a < 0)
        if not a:
            return compare(b, 0)
        if b * sign > 0 or (not b and compare(0, 0) == compare(sign, 0)):
            return compare(sign, 0)
    if not left.batch.is_open and comparison in ("equal", "not_equal"):
        is_same = str(_expression(left)) == str(_expression(right))
        return is_same == (comparison == "equal")
    outcome = bool(compare(left.value, _value(right)))
    if ours is not None and theirs is not None and a > 0 and not b % a:
        left, right = Size(left.batch), -b // a  # 10·n ≠ 0 is n ≠ 0
    left.batch.note(left, comparison, right, outcome)
    return outcome
