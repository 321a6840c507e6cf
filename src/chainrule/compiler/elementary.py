"""exp, log, tanh and their kin in vector instructions, for any number of lanes.

LLVM turns its own ``llvm.exp`` of a vector into one call of the C library per lane.
Here each function is a few multiplications and additions without a branch, so it runs
in every lane at once and fuses with what surrounds it.

The method is the textbook one: bring the argument into a short interval, exactly
enough (Cody & Waite, "Software Manual for the Elementary Functions", 1980), and use a
minimax polynomial there. The coefficients are our own, from a Remez exchange in 60
digits; each comment gives the interval and the largest relative error.

The bounds hold with and without a fused multiply-add, for float and double. A denormal
argument may count as 0 and a denormal result may be 0, as in a step, which runs with
such numbers flushed. ``benchmarks/function_errors.py`` measures the errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.compiler.emit import (
    Function,
    Value,
    element_of,
    lanes_of,
    number,
    short,
    vector,
)

__all__ = ["cos", "erf", "exp", "expm1", "library", "log", "log1p", "sin", "tanh"]


@dataclass(frozen=True)
class _Format:
    """What the functions need to know of float or double, and their coefficients.

    Args:
        integer: the LLVM type of the same size.
        mantissa: bits of it.
        bias: of the exponent.
        ln2: log 2 in two parts; the first has so few bits that a multiple is exact.
        half_root: √½, as bits.
        smallest: the least positive number that is not denormal.
        exp_low, exp_high: outside, exp is 0 or infinite.
        half_pi: π/2 in four parts, the first three as short as that of ln2.
        far: beyond, multiples of these are no longer exact.
    """

    integer: str
    mantissa: int
    bias: int
    ln2: tuple[float, float]
    half_root: int
    smallest: float
    exp_low: float
    exp_high: float
    half_pi: tuple[float, float, float, float]
    far: float
    exp: tuple[float, ...]
    log: tuple[float, ...]
    sin: tuple[float, ...]
    cos: tuple[float, ...]
    tanh_end: float
    erf_end: float
    erf: tuple[float, ...]

    @property
    def expm1_low(self) -> float:
        """Below, exp(x) is lost beside 1."""
        return -(self.mantissa + 3) * math.log(2)

    @property
    def magic(self) -> float:
        """Adding this rounds to an integer, which the lowest bits then hold."""
        return 1.5 * 2.0**self.mantissa


_FORMATS = {
    "float": _Format(
        integer="i32",
        mantissa=23,
        bias=127,
        ln2=(0.693145751953125, 1.428606765330187e-06),
        half_root=0x3F3504F3,
        smallest=2.0**-126,
        exp_low=-87.33654022216797,
        exp_high=88.72283172607422,
        half_pi=(
            1.5703125,
            0.0004837512969970703,
            7.549533620476723e-08,
            2.5633440682570896e-12,
        ),
        far=2.0**13,
        # (exp(r) - 1 - r)/r² on |r| ≤ ln2/2: 1.7e-8 of exp.
        exp=(
            0.5,
            0.1666654497385025,
            0.041666291654109955,
            0.008366348221898079,
            0.001394599792547524,
        ),
        # (log(1 + f) - f + f²/2)/f³ on √½ ≤ 1 + f ≤ √2: 7.2e-9.
        log=(
            0.33333316445350647,
            -0.250007688999176,
            0.20002269744873047,
            -0.16625767946243286,
            0.14181923866271973,
            -0.13118672370910645,
            0.12874208390712738,
            -0.07876408100128174,
        ),
        # (sin(r)/r - 1)/r² and (cos(r) - 1 + r²/2)/r⁴ on |r| ≤ π/4: 4.0e-9, 1.2e-10.
        sin=(-0.16666655242443085, 0.008332187309861183, -0.0001951789454324171),
        cos=(0.04166664555668831, -0.0013887309469282627, 2.443232551740948e-05),
        tanh_end=10.0,
        # -log(1 - erf(x))/x on 0 ≤ x ≤ end, less 2/√π as a float: 5.6e-9 of erf.
        erf_end=3.93,
        erf=(
            -5.4120960157888476e-08,
            0.6366193890571594,
            0.10277783125638962,
            -0.019153067842125893,
            -0.00016038755711633712,
            0.0016670165350660682,
            -0.0006328297313302755,
            0.00011763897055061534,
            -9.25597851164639e-06,
        ),
    ),
    "double": _Format(
        integer="i64",
        mantissa=52,
        bias=1023,
        ln2=(0.6931471805598903, 5.497923018708371e-14),
        half_root=0x3FE6A09E667F3BCD,
        smallest=2.0**-1022,
        exp_low=-708.3964185322641,
        exp_high=709.782712893384,
        half_pi=(
            1.5707963267341256,
            6.077100506303966e-11,
            2.0222662487111665e-21,
            8.4784276603689e-32,
        ),
        far=2.0**20,
        # The same terms: 2.6e-17 of exp.
        exp=(
            0.5000000000000004,
            0.16666666666666685,
            0.041666666666581065,
            0.00833333333331558,
            0.0013888888930169974,
            0.0001984126990105068,
            2.4801506692137512e-05,
            2.7557229593309714e-06,
            2.7625545158103435e-07,
            2.511399025162267e-08,
        ),
        # (2·atanh(s)/s - 2)/s² as polynomial of s², s = f/(2 + f): 1.2e-18.
        log=(
            0.6666666666666734,
            0.3999999999941666,
            0.2857142874202331,
            0.22222198605466167,
            0.18183562838634598,
            0.15314084921026969,
            0.1479563484653592,
        ),
        # The same terms: 3.8e-18, 6.4e-20.
        sin=(
            -0.1666666666666663,
            0.00833333333332184,
            -0.00019841269829358409,
            2.7557313538077707e-06,
            -2.5050734230750034e-08,
            1.5895418344261036e-10,
        ),
        cos=(
            0.041666666666666595,
            -0.0013888888888873307,
            2.480158728896515e-05,
            -2.755731420302191e-07,
            2.0875703126553614e-09,
            -1.135861589005463e-11,
        ),
        tanh_end=20.0,
        # The same, less 2/√π as a double: 3.0e-17 of erf.
        erf_end=5.93,
        erf=(
            -9.046700211815775e-18,
            0.6366197723675909,
            0.10277260330131559,
            -0.019128446993097133,
            -0.00020919485390042146,
            0.0016962076697311216,
            -0.0005901324295762064,
            2.590449791527119e-05,
            6.442047658369251e-05,
            -2.957567616112076e-05,
            3.1696836199165903e-06,
            3.132950148111143e-06,
            -2.037179376474601e-06,
            5.706272641059582e-07,
            -1.1705907899039259e-08,
            -6.573435032567035e-08,
            3.458507273792446e-08,
            -1.0773398042933166e-08,
            2.360522353324511e-09,
            -3.7607198061299275e-10,
            4.301791249302136e-11,
            -3.364350653429856e-12,
            1.614869711640689e-13,
            -3.5921883082838544e-15,
        ),
    ),
}


class _Real:
    """A float value whose arithmetic is written as in a formula."""

    def __init__(self, f: Function, value: Value) -> None:
        self.f = f
        self.value = value
        self.format = _FORMATS[element_of(value.type)]

    def _of(self, other: _Real | float) -> Value:
        if isinstance(other, _Real):
            return other.value
        return number(self.value.type, other)

    def _binary(self, opcode: str, x: Value, y: Value) -> _Real:
        return _Real(self.f, self.f.binary(opcode, x, y))

    def of_number(self, value: float) -> _Real:
        """A constant in every lane."""
        return _Real(self.f, number(self.value.type, value))

    def __add__(self, other: _Real | float) -> _Real:
        return self._binary("fadd", self.value, self._of(other))

    __radd__ = __add__

    def __sub__(self, other: _Real | float) -> _Real:
        return self._binary("fsub", self.value, self._of(other))

    def __rsub__(self, other: float) -> _Real:
        return self._binary("fsub", self._of(other), self.value)

    def __mul__(self, other: _Real | float) -> _Real:
        return self._binary("fmul", self.value, self._of(other))

    __rmul__ = __mul__

    def __truediv__(self, other: _Real | float) -> _Real:
        return self._binary("fdiv", self.value, self._of(other))

    def __abs__(self) -> _Real:
        return _Real(self.f, self.f.intrinsic("fabs", self.value))

    def times(self, factor: _Real | float, plus: _Real | float) -> _Real:
        """self·factor + plus."""
        return _Real(self.f, self.f.fma(self.value, self._of(factor), self._of(plus)))

    def polynomial(self, coefficients: Sequence[float]) -> _Real:
        """c0 + c1·self + c2·self² + ..."""
        if len(coefficients) > 7:
            # Two chains at a time: one alone would wait for its own results.
            square = self * self
            odd = square.polynomial(coefficients[1::2])
            return odd.times(self, square.polynomial(coefficients[::2]))
        *rest, last = coefficients
        y = self.of_number(last)
        for c in reversed(rest):
            y = y.times(self, c)
        return y

    def is_(self, comparison: str, other: _Real | float) -> Value:
        """``olt``, ``ogt``, ``uno`` ... against another, in each lane."""
        return self.f.compare(f"fcmp {comparison}", self.value, self._of(other))

    def where(self, condition: Value, other: _Real | float) -> _Real:
        """self where the condition holds, else the other."""
        return _Real(self.f, self.f.select(condition, self.value, self._of(other)))

    def at_most(self, limit: float) -> _Real:
        """The smaller of self and a limit; NaN stays."""
        # In this order it is one instruction, which returns its second operand for NaN.
        top = self.of_number(limit)
        return top.where(top.is_("olt", self), self)

    def signed_as(self, other: _Real) -> _Real:
        """Its magnitude with the sign of another."""
        return _Real(self.f, self.f.intrinsic("copysign", self.value, other.value))

    # The bits of a float, as an integer.

    @property
    def integer_type(self) -> str:
        """The LLVM type of as many integers of the same size."""
        return vector(self.format.integer, lanes_of(self.value.type))

    def bits(self) -> Value:
        """The same bits as an integer."""
        return self.f.cast("bitcast", self.value, self.integer_type)

    def of_bits(self, bits: Value) -> _Real:
        """The float that has these bits."""
        return _Real(self.f, self.f.cast("bitcast", bits, self.value.type))

    def integer(self, opcode: str, x: Value, y: Value | int) -> Value:
        """``add``, ``shl``, ``and`` ... of integers."""
        other = number(self.integer_type, y) if isinstance(y, int) else y
        return self.f.binary(opcode, x, other)


def _exponential_parts(x: _Real) -> tuple[Value, _Real]:
    """n in the place of an exponent, and r, where x = n·ln2 + r and |r| ≤ ln2/2."""
    k = x.format
    shifted = x.times(1 / math.log(2), k.magic)
    n = shifted - k.magic
    r = n.times(-k.ln2[1], n.times(-k.ln2[0], x))
    return x.integer("shl", shifted.bits(), k.mantissa), r


def exp(f: Function, value: Value) -> Value:
    """e^x, within 2 ulp."""
    x = _Real(f, value)
    k = x.format
    power, r = _exponential_parts(x)
    # The power of two joins the exponent's bits: 2^128 is no float, though exp(x) is.
    y = r.times(r.times(r.polynomial(k.exp), 1.0), 1.0)
    y = x.of_bits(x.integer("add", y.bits(), power))
    y = y.where(x.is_("ole", k.exp_high), x + math.inf)
    return x.of_number(0.0).where(x.is_("olt", k.exp_low), y).value


def expm1(f: Function, value: Value) -> Value:
    """e^x - 1, within 4 ulp near 0 too."""
    x = _Real(f, value)
    k = x.format
    power, r = _exponential_parts(x)
    # Half of the power of two, which is a float for every finite result.
    half = x.of_bits(x.integer("add", power, (k.bias - 1) << k.mantissa))
    y = half.times(_grown(r), half - 0.5)
    y = _itself_near_zero(x, y + y)
    y = x.of_number(math.inf).where(x.is_("ogt", k.exp_high), y)
    return x.of_number(-1.0).where(x.is_("olt", k.expm1_low), y).value


def _itself_near_zero(x: _Real, y: _Real) -> _Real:
    """y, but x where that is the same: halves of the least numbers would be lost."""
    return x.where(abs(x).is_("olt", 2.0 ** -(x.format.mantissa + 2)), y)


def _logarithm_parts(x: _Real) -> tuple[_Real, _Real, Value]:
    """n, m and n as bits of an exponent, where x = 2^n·m and √½ ≤ m < √2."""
    k = x.format
    moved = x.integer("sub", x.bits(), k.half_root)
    power = x.integer("and", moved, -(1 << k.mantissa))
    m = x.of_bits(x.integer("sub", x.bits(), power))
    # A small integer becomes a float as the mantissa of 2^mantissa; ``sign`` is the
    # weight of its sign bit, which has none there.
    sign = 2 * (k.bias + 1)
    large = (k.bias + k.mantissa) << k.mantissa
    field = x.integer("xor", x.integer("lshr", moved, k.mantissa), large | sign)
    n = x.of_bits(field) - (2.0**k.mantissa + sign)
    return n, m, power


def _logarithm(n: _Real, f: _Real) -> _Real:
    """n·ln2 + log(1 + f) for √½ ≤ 1 + f < √2."""
    k = n.format
    if k.integer == "i32":
        z = f * f
        rest = (z * f) * f.polynomial(k.log)
        rest = z.times(-0.5, n.times(k.ln2[1], rest))
        return n.times(k.ln2[0], f + rest)
    s = f / (f + 2.0)
    z = s * s
    square = (f * 0.5) * f
    rest = s.times(z.times(z.polynomial(k.log), square), n * k.ln2[1])
    return n.times(k.ln2[0], f - (square - rest))


def log(f: Function, value: Value) -> Value:
    """The natural logarithm, within 2 ulp; -inf at 0, NaN below."""
    x = _Real(f, value)
    n, m, _ = _logarithm_parts(x)
    y = _logarithm(n, m - 1.0)
    below = x.of_number(math.nan).where(x.is_("olt", 0.0), -math.inf)
    y = below.where(x.is_("olt", x.format.smallest), y)
    return y.where(x.is_("olt", math.inf), x).value


def log1p(f: Function, value: Value) -> Value:
    """log(1 + x), within 4 ulp near 0 too; -inf at -1, NaN below."""
    x = _Real(f, value)
    k = x.format
    u = x + 1.0
    back = u - 1.0
    lost = (x - back) + (1.0 - (u - back))  # what the sum rounded away, exactly
    n, m, power = _logarithm_parts(u)
    # 2^-n twice as large, so that it does not overflow its bits for the largest u.
    two = (k.bias + 1) << k.mantissa
    scale = x.of_bits(x.integer("sub", number(x.integer_type, two), power))
    y = _itself_near_zero(x, _logarithm(n, (lost * 0.5).times(scale, m - 1.0)))
    below = x.of_number(math.nan).where(x.is_("olt", -1.0), -math.inf)
    y = below.where(x.is_("ole", -1.0), y)
    return y.where(x.is_("olt", math.inf), x).value


def _growth(x: _Real) -> _Real:
    """exp(x) - 1 where neither end is near."""
    k = x.format
    power, r = _exponential_parts(x)
    scale = x.of_bits(x.integer("add", power, k.bias << k.mantissa))
    return scale.times(_grown(r), scale - 1.0)


def _grown(r: _Real) -> _Real:
    """exp(r) - 1 for |r| ≤ ln2/2."""
    return (r * r).times(r.polynomial(r.format.exp), r)


def tanh(f: Function, value: Value) -> Value:
    """The hyperbolic tangent, within 4 ulp; exactly ±1 at the ends."""
    x = _Real(f, value)
    size = abs(x).at_most(x.format.tanh_end)
    y = _growth(size + size)
    return (y / (y + 2.0)).signed_as(x).value


def erf(f: Function, value: Value) -> Value:
    """The error function, within 4 ulp; exactly ±1 at the ends."""
    x = _Real(f, value)
    size = abs(x).at_most(x.format.erf_end)
    # 1 - erf is an exponential of a smooth function, from 0 to the end.
    start = 2 / math.sqrt(math.pi)
    exponent = (size * -1.0).times(size.polynomial(x.format.erf), size * -start)
    return abs(_growth(exponent)).signed_as(x).value


def sin(f: Function, value: Value) -> Value:
    """The sine, within 4 ulp."""
    return _wave(f, value, "sin")


def cos(f: Function, value: Value) -> Value:
    """The cosine, within 4 ulp."""
    return _wave(f, value, "cos")


def _wave(f: Function, value: Value, name: str) -> Value:
    x = _Real(f, value)
    k = x.format
    shifted = x.times(2 / math.pi, k.magic)
    n = shifted - k.magic
    r = x
    for part in k.half_pi:
        r = n.times(-part, r)
    z = r * r
    sine = (z * r).times(z.polynomial(k.sin), r)
    cosine = (z * z).times(z.polynomial(k.cos), z.times(-0.5, 1.0))
    quarter = shifted.bits()
    if name == "cos":
        quarter = x.integer("add", quarter, 1)
    odd = x.integer("and", quarter, 1)
    is_sine = f.compare("icmp eq", odd, number(x.integer_type, 0))
    flip = x.integer("shl", x.integer("lshr", quarter, 1), int(k.integer[1:]) - 1)
    y = sine.where(is_sine, cosine)
    y = x.of_bits(x.integer("xor", y.bits(), flip))
    if name == "sin":
        y = y.where(x.is_("une", 0.0), x)
    return _with_far(f, x, y, name)


def _with_far(f: Function, x: _Real, y: _Real, name: str) -> Value:
    """y, but what the C library says where x is far: rare, so behind a branch."""
    is_far = abs(x).is_("ogt", x.format.far)
    type, lanes = x.value.type, lanes_of(x.value.type)
    any_far = is_far
    if lanes > 1:
        any_far = f.call(f"llvm.vector.reduce.or.v{lanes}i1", "i1", is_far)
    before, label = f.block, f.fresh("far")
    f.branch(any_far, label, f"{label}.end")
    f.label(label)
    exact = library(f, name, x.value)
    f.jump(f"{label}.end")
    f.label(f"{label}.end")
    # A lane's result must not depend on its neighbours, so only far lanes change.
    found = f.value(
        type, f"phi {type} [ {y.value.name}, %{before} ], [ {exact.name}, %{label} ]"
    )
    return f.select(is_far, found, y.value)


def library(f: Function, name: str, *arguments: Value) -> Value:
    """A function of the C library for each lane; slow, so it stands out of line."""
    type = arguments[0].type
    symbol = f"cr_library_{name}_{short(type)}"
    if symbol not in f.module.functions:
        parameters = [(type, f"x{i}") for i in range(len(arguments))]
        helper = Function(
            f.module, symbol, parameters, type, linkage="internal", inline="noinline"
        )
        helper.ret(helper.intrinsic(name, *helper.parameters))
        f.module.add(helper)
    return f.call(symbol, type, *arguments)
