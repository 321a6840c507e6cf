"""Scalar expressions read into native code: a table for ``scalar.fold``, and casts.

Each primitive is a function of values in registers, whatever their lanes. Floats are
``float`` and ``double``, integers ``i8`` to ``i64``, and yes or no is ``i1`` (in memory
a byte: ``convert`` between "bool" and "uint8"). What they mean follows NumPy.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial

import numpy as np

from chainrule.compiler import elementary
from chainrule.compiler.emit import (
    Function,
    Value,
    element_of,
    lanes_of,
    number,
    vector,
)

__all__ = ["convert", "element", "literal", "native_table"]


def native_table(f: Function, type: str = "") -> dict[str, Callable[..., Value]]:
    """What each primitive of a scalar expression does, as instructions of ``f``.

    Args:
        f: where the instructions go.
        type: of the operands, as LLVM or NumPy names it. Only unsigned integers
            ("uint8") need it: LLVM's types do not tell them from signed ones.

    Example:
        >>> from chainrule.compiler.emit import Module, number
        >>> from chainrule.core import scalar
        >>> f = Function(Module(), "cr_square", [("float", "x")], "float")
        >>> square = scalar.power(scalar.symbol("x"), 2)
        >>> table, symbols = native_table(f), {"x": f.parameters[0]}
        >>> f.ret(scalar.fold(square, table, symbols, partial(number, "float")))
        >>> print(f.text())
        define float @cr_square(float %x) #0 {
        entry:
          %v1 = fmul float %x, %x
          ret float %v1
        }
    """
    is_unsigned = type.startswith("u")
    table: dict[str, Callable[..., Value]] = {
        "add": partial(_arithmetic, f, "add"),
        "subtract": partial(_arithmetic, f, "sub"),
        "multiply": partial(_arithmetic, f, "mul"),
        "divide": partial(f.binary, "fdiv"),
        "negative": partial(_negative, f),
        "power": partial(_power, f),
        "sqrt": partial(f.intrinsic, "sqrt"),
        "absolute": partial(_absolute, f),
        "sign": partial(_sign, f),
        "floor": partial(f.intrinsic, "floor"),
        "minimum": partial(_extreme, f, "lt", is_unsigned),
        "maximum": partial(_extreme, f, "gt", is_unsigned),
        "logical_and": partial(f.binary, "and"),
        "logical_or": partial(f.binary, "or"),
        "logical_not": partial(_not, f),
        "select": f.select,
    }
    for name, predicate in _COMPARISONS.items():
        table[name] = partial(_compare, f, predicate, is_unsigned)
    for name in ("exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf"):
        table[name] = partial(getattr(elementary, name), f)
    return table


_COMPARISONS = {
    "equal": "eq",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "not_equal": "ne",
}


def _is_float(x: Value) -> bool:
    return element_of(x.type) in ("float", "double")


def literal(x: Value) -> float | None:
    """The number that a constant is, the same in every lane; None for a variable.

    Example:
        >>> literal(number("<8 x float>", 0.5)), literal(Value("float", "%x"))
        (0.5, None)
    """
    text = x.name.removeprefix("splat (").removesuffix(")").split(" ")[-1]
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("0x"):
        return float(struct.unpack("<d", struct.pack("<Q", int(text, 16)))[0])
    return int(text) if text.lstrip("-").isdigit() else None


# ---------------------------------------------------------------------- arithmetic


def _arithmetic(f: Function, name: str, x: Value, y: Value) -> Value:
    return f.binary(f"f{name}" if _is_float(x) else name, x, y)


def _negative(f: Function, x: Value) -> Value:
    if _is_float(x):
        return f.value(x.type, f"fneg {x}")
    return f.binary("sub", number(x.type, 0), x)


def _absolute(f: Function, x: Value) -> Value:
    if _is_float(x):
        return f.intrinsic("fabs", x)
    below = f.compare("icmp slt", x, number(x.type, 0))
    return f.select(below, _negative(f, x), x)


def _sign(f: Function, x: Value) -> Value:
    zero = number(x.type, 0)
    if _is_float(x):
        one = f.intrinsic("copysign", number(x.type, 1), x)
        # 0 and NaN are their own sign; adding 0 makes -0 positive.
        itself = f.compare("fcmp ueq", x, zero)
        return f.select(itself, f.binary("fadd", x, zero), one)
    above = f.cast("zext", f.compare("icmp sgt", x, zero), x.type)
    below = f.cast("zext", f.compare("icmp slt", x, zero), x.type)
    return f.binary("sub", above, below)


def _extreme(
    f: Function, predicate: str, is_unsigned: bool, x: Value, y: Value
) -> Value:
    """The smaller or the larger. NaN wins; of two zeros it is either."""
    if not _is_float(x):
        return f.select(_compare(f, predicate, is_unsigned, x, y), x, y)
    if literal(y) is not None:
        x, y = y, x
    # In this form one instruction, which returns y if either is NaN.
    found = f.select(f.compare(f"fcmp o{predicate}", x, y), x, y)
    known = literal(x)
    if known is not None and not math.isnan(known):
        return found
    return f.select(f.compare("fcmp uno", x, x), x, found)


def _compare(
    f: Function, predicate: str, is_unsigned: bool, x: Value, y: Value
) -> Value:
    if _is_float(x):
        # NaN differs from everything; no other comparison with it holds.
        return f.compare(f"fcmp {'u' if predicate == 'ne' else 'o'}{predicate}", x, y)
    if predicate not in ("eq", "ne"):
        # Yes as a signed number would be -1, below no.
        is_unsigned = is_unsigned or element_of(x.type) == "i1"
        predicate = f"{'u' if is_unsigned else 's'}{predicate}"
    return f.compare(f"icmp {predicate}", x, y)


def _not(f: Function, x: Value) -> Value:
    return f.binary("xor", x, number(x.type, True))


# --------------------------------------------------------------------------- power


def _power(f: Function, x: Value, y: Value) -> Value:
    """x^y. Small constant exponents become products and roots, within 4 ulp.

    Other powers of floats are computed in double, those of doubles by the C library.
    An integer's exponent is a constant that is not negative, as the ops see to.
    """
    known = literal(y)
    if not _is_float(x):
        if known is None or known < 0 or known != int(known):
            raise ValueError("power: an integer takes a constant exponent from 0 on")
        return _repeated(f, "mul", x, int(known))
    if known in (0, 1, 2, 3, 4):
        return _repeated(f, "fmul", x, int(known))
    if known in (-1, -2):
        inverse = f.binary("fdiv", number(x.type, 1), x)
        return _repeated(f, "fmul", inverse, -int(known))
    if known == 0.5:
        return f.intrinsic("sqrt", x)
    if known == -0.5:
        # Unlike 1/√x, the power of -0 and of -inf is that of their opposites.
        endless = f.compare("fcmp oeq", x, number(x.type, -math.inf))
        clean = f.select(endless, number(x.type, math.inf), x)
        clean = f.binary("fadd", clean, number(x.type, 0))
        return f.binary("fdiv", number(x.type, 1), f.intrinsic("sqrt", clean))
    if element_of(x.type) == "double":
        return elementary.library(f, "pow", x, y)
    wide = vector("double", lanes_of(x.type))
    found = _general_power(f, f.cast("fpext", x, wide), f.cast("fpext", y, wide))
    return f.cast("fptrunc", found, x.type)


def _repeated(f: Function, opcode: str, x: Value, exponent: int) -> Value:
    """x multiplied with itself, by squaring."""
    result = None
    while exponent:
        if exponent & 1:
            result = x if result is None else f.binary(opcode, result, x)
        exponent >>= 1
        if exponent:
            x = f.binary(opcode, x, x)
    return number(x.type, 1) if result is None else result


def _general_power(f: Function, x: Value, y: Value) -> Value:
    """exp(y·log|x|) with the sign and the special cases of C's ``pow``."""
    zero, two = number(x.type, 0), number(x.type, 2)
    logarithm = elementary.log(f, f.intrinsic("fabs", x))
    product = f.binary("fmul", y, logarithm)
    # Anything to the power of 0 and ±1 to any power: not 0·inf.
    for factor in (y, logarithm):
        product = f.select(f.compare("fcmp oeq", factor, zero), zero, product)
    size = elementary.exp(f, product)
    half = f.binary("fdiv", y, two)
    is_whole = f.compare("fcmp oeq", y, f.intrinsic("floor", y))
    is_split = f.compare("fcmp une", half, f.intrinsic("floor", half))
    is_odd = f.binary("and", is_whole, is_split)
    signed = f.select(is_odd, f.intrinsic("copysign", size, x), size)
    is_below = f.compare("fcmp olt", x, zero)
    is_finite = f.compare("fcmp one", x, number(x.type, -math.inf))
    is_refused = f.binary(
        "and", f.binary("and", is_below, is_finite), _not(f, is_whole)
    )
    return f.select(is_refused, number(x.type, math.nan), signed)


# --------------------------------------------------------------------------- casts

_FLOATS = {"float32": "float", "float64": "double"}


def element(dtype: str) -> str:
    """The LLVM type of one element of a NumPy dtype in a register.

    Example:
        >>> element("float32"), element("uint8"), element("bool")
        ('float', 'i8', 'i1')
    """
    if dtype == "bool":
        return "i1"
    return _FLOATS.get(dtype) or f"i{np.dtype(dtype).itemsize * 8}"


def convert(f: Function, x: Value, source: str, target: str) -> Value:
    """x in another dtype, as ``astype`` does it; the dtypes are named as in NumPy.

    Floats lose their fraction; one that the integer cannot hold becomes what it does
    on this processor. Yes is 1, and whatever is not 0 (NaN too) is yes.
    """
    if source == target:
        return x
    type = vector(element(target), lanes_of(x.type))
    if target == "bool":
        opcode = "fcmp une" if source in _FLOATS else "icmp ne"
        return f.compare(opcode, x, number(x.type, 0))
    is_signed = source.startswith("int")
    if source in _FLOATS:
        if target in _FLOATS:
            return f.cast("fptrunc" if source == "float64" else "fpext", x, type)
        return _truncated(f, x, target, type)
    if target in _FLOATS:
        return f.cast("sitofp" if is_signed else "uitofp", x, type)
    before, after = _num_bits(x.type), _num_bits(type)
    if before == after:
        return x
    widening = "sext" if is_signed else "zext"
    return f.cast("trunc" if after < before else widening, x, type)


def _num_bits(type: str) -> int:
    return int(element_of(type)[1:])


def _truncated(f: Function, x: Value, target: str, type: str) -> Value:
    """A float as an integer. Small ones are cut from a larger one, as C does it."""
    if target == "uint64":
        whole = f.cast("fptoui", x, type)
    else:
        size = "i64" if target in ("int64", "uint32") else "i32"
        whole = f.cast("fptosi", x, vector(size, lanes_of(x.type)))
    # What does not fit is undefined in LLVM; frozen, it is some number and stays it.
    whole = f.value(whole.type, f"freeze {whole}")
    return whole if whole.type == type else f.cast("trunc", whole, type)
