"""Ops that treat every element alike: arithmetic, comparisons, logic, selection.

Each is one scalar expression; its NumPy function, its printed formula and its native
code are readings of that expression.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from chainrule.core import scalar
from chainrule.core.graph import (
    FUNCTIONS,
    Op,
    Tensor,
    apply,
    as_tensor,
    constant,
    function,
    mode,
    operands,
    register,
)
from chainrule.core.scalar import Expr
from chainrule.core.size import Number as SymbolicNumber
from chainrule.core.spec import (
    BOOL,
    FLOAT32,
    Spec,
    arithmetic_dtype,
    as_dtype,
    broadcast_shapes,
    is_float,
)
from chainrule.errors import DtypeError, OptionError

__all__ = [
    "ElementwiseOp",
    "FloatOp",
    "abs",
    "add",
    "astype",
    "clip",
    "cos",
    "divide",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "greater",
    "greater_equal",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "not_equal",
    "power",
    "reciprocal",
    "sign",
    "sin",
    "sqrt",
    "square",
    "subtract",
    "where",
]

Number = Any
"""What an operand may be: a Tensor, an array, or a Python or NumPy scalar."""


class ElementwiseOp(Op):
    """An op whose every output element depends on one element of each input."""

    is_boolean: ClassVar[bool] = False

    def scalar(self, *x: Expr) -> Expr:
        """The op on one element."""
        raise NotImplementedError

    def prepare(self) -> None:
        super().prepare()
        if type(self).compute is ElementwiseOp.compute:
            reading = scalar.numpy_function(self.name, self.arguments, self.expression)
            # On the instance, so that a call reaches NumPy without a detour.
            object.__setattr__(self, "compute", reading)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the operands, as ``scalar`` calls them."""
        return _arguments(type(self))

    @property
    def expression(self) -> Expr:
        """The op on one element, with its settings filled in."""
        return self.scalar(*map(scalar.symbol, self.arguments))

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        return (arithmetic_dtype(self.name, *inputs),) * len(inputs)

    def spec(self, *inputs: Spec) -> Spec:
        dtype = BOOL if self.is_boolean else inputs[-1].dtype
        return Spec(broadcast_shapes(self.name, *inputs), dtype)

    def compute(self, *arrays: Any) -> Any:
        raise AssertionError("replaced by the reading of the expression")

    def formula(self, *names: str) -> str:
        return scalar.formula(self.scalar(*map(scalar.symbol, names)))

    def latex(self, *names: str) -> str:
        return scalar.latex(self.scalar(*map(scalar.symbol, names)))


@cache
def _arguments(cls: type[ElementwiseOp]) -> tuple[str, ...]:
    return tuple(inspect.signature(cls.scalar).parameters)[1:]


class FloatOp(ElementwiseOp):
    """An elementwise op that takes integers as float32."""

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        dtype = arithmetic_dtype(self.name, *inputs)
        return (dtype if is_float(dtype) else FLOAT32,) * len(inputs)


# --------------------------------------------------------------------- arithmetic


@register
class Add(ElementwiseOp):
    """x + y."""

    name = "add"
    pattern = "distributes: every operand receives dy unchanged"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x + y

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        return dy, dy


@register
class Subtract(ElementwiseOp):
    """x - y."""

    name = "subtract"
    pattern = "distributes: dy to the first operand, -dy to the second"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x - y

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        return dy, lambda: -dy


@register
class Multiply(ElementwiseOp):
    """x · y, element by element."""

    name = "multiply"
    pattern = "switches: each operand receives dy times the other operand"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x * y

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        return lambda: dy * b, lambda: dy * a


@register
class Divide(FloatOp):
    """x / y; integers are divided as floats."""

    name = "divide"
    pattern = "scales: dy/b to the numerator, -dy·(a/b)/b to the denominator"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return x / y

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        return lambda: dy / b, lambda: -(dy * (y / b))


@register
class Negative(ElementwiseOp):
    """-x."""

    name = "negative"
    pattern = "scales: dy times -1"

    def scalar(self, x: Expr) -> Expr:
        return -x

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (-dy,)


@register
class Power(FloatOp):
    """x^y for two tensors; ∂/∂y is 0 where x = 0 and y ≥ 0, its one-sided limit."""

    name = "power"
    pattern = "scales: dy·y·x^(y-1) to the base, dy·x^y·log(x) to the exponent"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return scalar.power(x, y)

    def gradient(self, dy: Tensor, y: Tensor, base: Tensor, exponent: Tensor) -> Any:
        def to_base() -> Tensor:
            is_flat = exponent == 0
            slope = exponent * power(where(is_flat, 1.0, base), exponent - 1)
            return dy * where(is_flat, 0.0, slope)

        def to_exponent() -> Tensor:
            limit = where(exponent >= 0, base == 0, False)
            return dy * where(limit, 0.0, y * log(where(limit, 1.0, base)))

        return to_base, to_exponent


@register
@dataclass(frozen=True)
class PowerConstant(ElementwiseOp):
    """x^exponent for a number: exact for small integers, defined for negative x."""

    name = "power_constant"
    pattern = "scales: dy·exponent·x^(exponent-1)"
    exponent: float

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        dtype = arithmetic_dtype("power", *inputs)
        keeps = is_float(dtype) or (
            isinstance(self.exponent, int) and self.exponent >= 0
        )
        return (dtype if keeps else FLOAT32,)

    def scalar(self, x: Expr) -> Expr:
        return scalar.power(x, self.exponent)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        if self.exponent == 0:
            return (None,)
        if self.exponent == 2:
            return (dy * (x * 2),)
        return (dy * (power(x, self.exponent - 1) * self.exponent),)


@register
class Absolute(ElementwiseOp):
    """|x|; its derivative at 0 is taken as 0."""

    name = "abs"
    pattern = "scales: dy times the sign of x"

    def scalar(self, x: Expr) -> Expr:
        return scalar.absolute(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * sign(x),)


@register
class Sign(ElementwiseOp):
    """-1, 0 or 1."""

    name = "sign"
    pattern = "blocks: a step has derivative 0"

    def scalar(self, x: Expr) -> Expr:
        return scalar.sign(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (None,)


@register
class Floor(FloatOp):
    """The largest integer not above x, as a float."""

    name = "floor"
    pattern = "blocks: a step has derivative 0"

    def scalar(self, x: Expr) -> Expr:
        return scalar.floor(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (None,)


# ------------------------------------------------------------ exponentials, waves


@register
class Exp(FloatOp):
    """e^x."""

    name = "exp"
    pattern = "scales: dy times the output"

    def scalar(self, x: Expr) -> Expr:
        return scalar.exp(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * y,)


@register
class Expm1(FloatOp):
    """exp(x) - 1, exact near 0."""

    name = "expm1"
    pattern = "scales: dy times exp(x)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.expm1(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * (y + 1),)


@register
class Log(FloatOp):
    """The natural logarithm."""

    name = "log"
    pattern = "scales: dy / x"

    def scalar(self, x: Expr) -> Expr:
        return scalar.log(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy / x,)


@register
class Log1p(FloatOp):
    """log(1 + x), exact near 0."""

    name = "log1p"
    pattern = "scales: dy / (1 + x)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.log1p(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy / (x + 1),)


@register
class Sqrt(FloatOp):
    """√x; its derivative at 0 is infinite."""

    name = "sqrt"
    pattern = "scales: dy / (2·√x)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.sqrt(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy / (y * 2),)


@register
class Sin(FloatOp):
    """The sine of x in radians."""

    name = "sin"
    pattern = "scales: dy·cos(x)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.sin(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * cos(x),)


@register
class Cos(FloatOp):
    """The cosine of x in radians."""

    name = "cos"
    pattern = "scales: -dy·sin(x)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.cos(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (-(dy * sin(x)),)


@register
class Erf(FloatOp):
    """The error function 2/√π ∫₀ˣ exp(-t²) dt."""

    name = "erf"
    pattern = "scales: dy·(2/√π)·exp(-x²)"

    def scalar(self, x: Expr) -> Expr:
        return scalar.erf(x)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (dy * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),)


# ------------------------------------------------------------ choice, comparison


@register
class Maximum(ElementwiseOp):
    """The larger of two; at a tie each receives half of the gradient. NaN wins."""

    name = "maximum"
    pattern = "routes: dy to the larger operand"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return scalar.maximum(x, y)

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        return lambda: _share(dy, a > b, a == b), lambda: _share(dy, b > a, a == b)


@register
class Minimum(ElementwiseOp):
    """The smaller of two; at a tie each receives half of the gradient. NaN wins."""

    name = "minimum"
    pattern = "routes: dy to the smaller operand"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return scalar.minimum(x, y)

    def gradient(self, dy: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Any:
        return lambda: _share(dy, a < b, a == b), lambda: _share(dy, b < a, a == b)


def _share(dy: Tensor, wins: Tensor, ties: Tensor) -> Tensor:
    return where(wins, dy, where(ties, dy * 0.5, 0.0))


@register
@dataclass(frozen=True)
class Clip(ElementwiseOp):
    """min(max(x, low), high); the borders themselves still pass the gradient."""

    name = "clip"
    pattern = "gates: dy inside [low, high], 0 outside"
    low: float
    high: float

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        dtype = arithmetic_dtype(self.name, *inputs)
        borders = [b for b in (self.low, self.high) if math.isfinite(b)]
        keeps = is_float(dtype) or all(isinstance(b, int) for b in borders)
        return (dtype if keeps else FLOAT32,)

    def scalar(self, x: Expr) -> Expr:
        y = x if self.low == -math.inf else scalar.maximum(x, self.low)
        return y if self.high == math.inf else scalar.minimum(y, self.high)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (where(x < self.low, 0.0, where(x > self.high, 0.0, dy)),)


@register
class Where(ElementwiseOp):
    """One of two operands, as a condition says."""

    name = "where"
    pattern = "routes: dy to the operand that was chosen"

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        chosen = inputs[1]
        if inputs[1] != inputs[2]:
            chosen = arithmetic_dtype(self.name, *inputs[1:])
        return BOOL, chosen, chosen

    def scalar(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        return scalar.select(condition, x, y)

    def gradient(
        self, dy: Tensor, y: Tensor, condition: Tensor, a: Tensor, b: Tensor
    ) -> Any:
        return (
            None,
            lambda: where(condition, dy, 0.0),
            lambda: where(condition, 0.0, dy),
        )


class Predicate(ElementwiseOp):
    """A yes or no for each element; it has no derivative."""

    is_boolean = True
    pattern = "blocks: a yes or no has no derivative"

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        return (None,) * len(inputs)


class Comparison(Predicate):
    """Two numbers compared."""

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        if inputs[0] == inputs[1]:
            return inputs  # comparing bytes is safe: nothing can wrap around
        return (np.result_type(*inputs),) * 2

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return scalar.compare(self.name, x, y)


@register
class Equal(Comparison):
    """Whether x = y."""

    name = "equal"


@register
class NotEqual(Comparison):
    """Whether x ≠ y."""

    name = "not_equal"


@register
class Less(Comparison):
    """Whether x < y."""

    name = "less"


@register
class LessEqual(Comparison):
    """Whether x ≤ y."""

    name = "less_equal"


@register
class Greater(Comparison):
    """Whether x > y."""

    name = "greater"


@register
class GreaterEqual(Comparison):
    """Whether x ≥ y."""

    name = "greater_equal"


class Logic(Predicate):
    """Yes and no combined. Numbers are refused: their bits are another matter."""

    def dtypes(self, *inputs: np.dtype[Any]) -> tuple[np.dtype[Any], ...]:
        if any(dtype != BOOL for dtype in inputs):
            raise DtypeError(
                f"{self.name}: combines yes and no, not numbers",
                got=", ".join(dtype.name for dtype in inputs),
                expected="bool",
                hint="compare first: x > 0, or x.astype('bool')",
            )
        return inputs


@register
class LogicalAnd(Logic):
    """Whether x and y both hold."""

    name = "logical_and"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return scalar.logical_and(x, y)


@register
class LogicalOr(Logic):
    """Whether x or y holds, or both."""

    name = "logical_or"

    def scalar(self, x: Expr, y: Expr) -> Expr:
        return scalar.logical_or(x, y)


@register
class LogicalNot(Logic):
    """Whether x does not hold."""

    name = "logical_not"

    def scalar(self, x: Expr) -> Expr:
        return scalar.logical_not(x)


@register
@dataclass(frozen=True)
class AsType(Op):
    """The same numbers in another dtype; between floats the gradient is cast back."""

    name = "astype"
    pattern = "passes: dy in the input's dtype"
    dtype: np.dtype[Any]

    def spec(self, *inputs: Spec) -> Spec:
        return Spec(inputs[0].shape, self.dtype)

    def compute(self, *arrays: Any) -> Any:
        with np.errstate(all="ignore"):  # float64 overflows float32, NaN an integer
            return arrays[0].astype(self.dtype)

    def gradient(self, dy: Tensor, y: Tensor, x: Tensor) -> Any:
        return (astype(dy, x.dtype),)


# --------------------------------------------------------------- public functions

_ADD = Add.make()
_SUBTRACT = Subtract.make()
_MULTIPLY = Multiply.make()
_DIVIDE = Divide.make()
_NEGATIVE = Negative.make()
_POWER = Power.make()
_WHERE = Where.make()


@function
def add(x: Number, y: Number) -> Tensor:
    """x + y, with broadcasting."""
    return apply(_ADD, *operands(x, y))


@function
def subtract(x: Number, y: Number) -> Tensor:
    """x - y, with broadcasting."""
    return apply(_SUBTRACT, *operands(x, y))


@function
def multiply(x: Number, y: Number) -> Tensor:
    """x · y element by element, with broadcasting."""
    return apply(_MULTIPLY, *operands(x, y))


@function
def divide(x: Number, y: Number) -> Tensor:
    """x / y element by element; integers are divided as float32."""
    return apply(_DIVIDE, *operands(x, y))


@function
def negative(x: Number) -> Tensor:
    """-x."""
    return apply(_NEGATIVE, as_tensor(x))


@function
def power(x: Number, y: Number) -> Tensor:
    """x^y; a Python number as exponent keeps integers integer and negative x exact.

    Example:
        >>> import chainrule as cr
        >>> cr.power(cr.Tensor([-2.0, 3.0]), 2)
        Tensor([4., 9.], dtype=float32)
    """
    if isinstance(y, (int, float, np.generic, SymbolicNumber)):
        return apply(PowerConstant.make(_plain(y)), as_tensor(x))
    return apply(_POWER, *operands(x, y))


def _plain(number: Any) -> int | float:
    """A Python int or float, which takes the dtype of the array that it meets."""
    if isinstance(number, SymbolicNumber):
        number = number.pinned()
    value = number.item() if isinstance(number, np.generic) else number
    return int(value) if isinstance(value, bool) else value


@function
def abs(x: Number) -> Tensor:
    """|x|."""
    return apply(Absolute.make(), as_tensor(x))


@function
def sign(x: Number) -> Tensor:
    """-1, 0 or 1; its gradient is 0."""
    return apply(Sign.make(), as_tensor(x))


@function
def floor(x: Number) -> Tensor:
    """The largest integer not above x, as a float; its gradient is 0."""
    return apply(Floor.make(), as_tensor(x))


@function
def exp(x: Number) -> Tensor:
    """e^x."""
    return apply(Exp.make(), as_tensor(x))


@function
def expm1(x: Number) -> Tensor:
    """e^x - 1, exact near 0."""
    return apply(Expm1.make(), as_tensor(x))


@function
def log(x: Number) -> Tensor:
    """The natural logarithm: -inf at 0, NaN below."""
    return apply(Log.make(), as_tensor(x))


@function
def log1p(x: Number) -> Tensor:
    """log(1 + x), exact near 0."""
    return apply(Log1p.make(), as_tensor(x))


@function
def sqrt(x: Number) -> Tensor:
    """√x; NaN below 0, gradient infinite at 0."""
    return apply(Sqrt.make(), as_tensor(x))


@function
def square(x: Number) -> Tensor:
    """x²."""
    return power(x, 2)


@function
def reciprocal(x: Number) -> Tensor:
    """1 / x."""
    return divide(1.0, as_tensor(x))


@function
def sin(x: Number) -> Tensor:
    """The sine of x, in radians."""
    return apply(Sin.make(), as_tensor(x))


@function
def cos(x: Number) -> Tensor:
    """The cosine of x, in radians."""
    return apply(Cos.make(), as_tensor(x))


@function
def erf(x: Number) -> Tensor:
    """The error function."""
    return apply(Erf.make(), as_tensor(x))


@function
def maximum(x: Number, y: Number) -> Tensor:
    """The larger of two, element by element; NaN wins, a tie splits the gradient."""
    return apply(Maximum.make(), *operands(x, y))


@function
def minimum(x: Number, y: Number) -> Tensor:
    """The smaller of two, element by element; NaN wins, a tie splits the gradient."""
    return apply(Minimum.make(), *operands(x, y))


@function
def clip(x: Number, low: float | None = None, high: float | None = None) -> Tensor:
    """x, but not below ``low`` nor above ``high``; integers stay so between integers.

    Raises:
        OptionError: if both are missing, or low > high.
    """
    if low is None and high is None:
        raise OptionError(
            "clip: no border given", got="None, None", expected="a border"
        )
    bottom = -math.inf if low is None else _plain(low)
    top = math.inf if high is None else _plain(high)
    if not bottom <= top:
        raise OptionError(
            "clip: borders crossed", got=f"[{low}, {high}]", expected="low ≤ high"
        )
    return apply(Clip.make(bottom, top), as_tensor(x))


@function
def where(condition: Number, x: Number, y: Number) -> Tensor:
    """x where the condition holds, else y, with broadcasting."""
    return apply(_WHERE, as_tensor(condition), *operands(x, y))


def _comparison(op: Op) -> Any:
    def compare(x: Number, y: Number) -> Tensor:
        return apply(op, *operands(x, y))

    compare.__name__ = compare.__qualname__ = op.name
    compare.__doc__ = (
        f"Whether x is {op.name.replace('_', ' or ')} to y: bool, no gradient."
    )
    return function(compare)


equal = _comparison(Equal.make())
not_equal = _comparison(NotEqual.make())
less = _comparison(Less.make())
less_equal = _comparison(LessEqual.make())
greater = _comparison(Greater.make())
greater_equal = _comparison(GreaterEqual.make())


@function
def logical_and(x: Number, y: Number) -> Tensor:
    """Whether x and y both hold, element by element: x & y.

    Raises DtypeError for anything but bools.

    Example:
        >>> import chainrule as cr
        >>> x = cr.Tensor([-1.0, 0.5, 2.0])
        >>> ((x > 0) & ~(x > 1)).tolist()
        [False, True, False]
    """
    return apply(LogicalAnd.make(), *operands(x, y))


@function
def logical_or(x: Number, y: Number) -> Tensor:
    """Whether x or y holds, or both: x | y. Raises DtypeError for all but bools."""
    return apply(LogicalOr.make(), *operands(x, y))


@function
def logical_not(x: Number) -> Tensor:
    """Whether x does not hold: ~x. Raises DtypeError for anything but bools."""
    return apply(LogicalNot.make(), as_tensor(x))


@function
def astype(x: Number, dtype: Any) -> Tensor:
    """x in another dtype; x itself if it has that dtype already."""
    t, wanted = as_tensor(x), as_dtype(dtype)
    return t if t.dtype == wanted else apply(AsType.make(wanted), t)


@function
def zeros_like(x: Number) -> Tensor:
    """Zeros of x's shape and dtype, cut off from the graph."""
    return _filled(x, 0)


@function
def ones_like(x: Number) -> Tensor:
    """Ones of x's shape and dtype, cut off from the graph."""
    return _filled(x, 1)


def _filled(x: Number, value: int) -> Tensor:
    t = as_tensor(x)
    if mode.capturing is None:
        return as_tensor(np.full(t.shape, value, t.dtype))
    return FUNCTIONS["broadcast_to"](as_tensor(np.array(value, t.dtype)), t.shape)


__all__ += ["constant", "ones_like", "zeros_like"]
