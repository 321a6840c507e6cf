"""One-element expressions, held as data.

An elementwise op states what it does to one element; that statement is read into NumPy
code, a printed formula, a symbolic derivative and native code. This module holds the
expressions and their first two readings. A new reading is one table for ``fold``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

__all__ = [
    "PRIMITIVES",
    "Expr",
    "absolute",
    "constant",
    "cos",
    "equal",
    "erf",
    "exp",
    "expm1",
    "floor",
    "fold",
    "formula",
    "greater",
    "in_place_function",
    "latex",
    "less",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "maximum",
    "minimum",
    "num_steps",
    "numpy_function",
    "postorder",
    "power",
    "quietly",
    "select",
    "sign",
    "sin",
    "sqrt",
    "substitute",
    "symbol",
    "symbols",
    "tanh",
]


class Primitive(NamedTuple):
    """How one primitive is written: as NumPy source, as a formula and in LaTeX."""

    source: str
    text: str
    precedence: int
    latex: str
    is_partial: bool = False
    """Whether it leaves the finite numbers: overflow, log of 0, division by 0."""


_CALL = 9

PRIMITIVES: dict[str, Primitive] = {
    "add": Primitive("({} + {})", "{} + {}", 1, r"{} + {}"),
    "subtract": Primitive("({} - {})", "{} - {}", 1, r"{} - {}"),
    "multiply": Primitive("({} * {})", "{}·{}", 2, r"{} \cdot {}"),
    "divide": Primitive("({} / {})", "{} / {}", 2, r"\frac{{{}}}{{{}}}", True),
    "negative": Primitive("(-{})", "-{}", 3, r"-{}"),
    "power": Primitive("({} ** {})", "{}^{}", 4, r"{}^{{{}}}", True),
    "exp": Primitive("exp({})", "exp({})", _CALL, r"e^{{{}}}", True),
    "expm1": Primitive(
        "expm1({})", "(exp({}) - 1)", _CALL, r"\left(e^{{{}}} - 1\right)", True
    ),
    "log": Primitive("log({})", "log({})", _CALL, r"\log\left({}\right)", True),
    "log1p": Primitive(
        "log1p({})", "log(1 + {})", _CALL, r"\log\left(1 + {}\right)", True
    ),
    "sqrt": Primitive("sqrt({})", "√({})", _CALL, r"\sqrt{{{}}}", True),
    "absolute": Primitive("absolute({})", "|{}|", _CALL, r"\left|{}\right|"),
    "sign": Primitive("sign({})", "sign({})", _CALL, r"\mathrm{{sign}}\left({}\right)"),
    "floor": Primitive("floor({})", "⌊{}⌋", _CALL, r"\left\lfloor {}\right\rfloor "),
    "sin": Primitive("sin({})", "sin({})", _CALL, r"\sin\left({}\right)", True),
    "cos": Primitive("cos({})", "cos({})", _CALL, r"\cos\left({}\right)", True),
    "tanh": Primitive("tanh({})", "tanh({})", _CALL, r"\tanh\left({}\right)"),
    "erf": Primitive("erf({})", "erf({})", _CALL, r"\mathrm{{erf}}\left({}\right)"),
    "minimum": Primitive(
        "minimum({}, {})", "min({}, {})", _CALL, r"\min\left({}, {}\right)"
    ),
    "maximum": Primitive(
        "maximum({}, {})", "max({}, {})", _CALL, r"\max\left({}, {}\right)"
    ),
    "equal": Primitive("({} == {})", "{} = {}", 0, r"{} = {}"),
    "less": Primitive("({} < {})", "{} < {}", 0, r"{} < {}"),
    "less_equal": Primitive("({} <= {})", "{} ≤ {}", 0, r"{} \leq {}"),
    "greater": Primitive("({} > {})", "{} > {}", 0, r"{} > {}"),
    "greater_equal": Primitive("({} >= {})", "{} ≥ {}", 0, r"{} \geq {}"),
    "not_equal": Primitive("({} != {})", "{} ≠ {}", 0, r"{} \neq {}"),
    "logical_and": Primitive("logical_and({}, {})", "{} ∧ {}", -1, r"{} \wedge {}"),
    "logical_or": Primitive("logical_or({}, {})", "{} ∨ {}", -2, r"{} \vee {}"),
    "logical_not": Primitive("logical_not({})", "¬{}", 3, r"\neg {}"),
    "select": Primitive(
        "where({}, {}, {})",
        "({} ? {} : {})",
        _CALL,
        r"\left({}\ ?\ {} : {}\right)",
    ),
}


@dataclass(frozen=True, eq=False)
class Expr:
    """A node of a scalar expression: a symbol, a constant, or a primitive of others."""

    kind: str
    args: tuple[Expr, ...] = ()
    name: str = ""
    value: float = 0.0

    def __add__(self, other: Operand) -> Expr:
        return _make("add", self, other)

    def __radd__(self, other: Operand) -> Expr:
        return _make("add", other, self)

    def __sub__(self, other: Operand) -> Expr:
        return _make("subtract", self, other)

    def __rsub__(self, other: Operand) -> Expr:
        return _make("subtract", other, self)

    def __mul__(self, other: Operand) -> Expr:
        return _make("multiply", self, other)

    def __rmul__(self, other: Operand) -> Expr:
        return _make("multiply", other, self)

    def __truediv__(self, other: Operand) -> Expr:
        return _make("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Expr:
        return _make("divide", other, self)

    def __neg__(self) -> Expr:
        return _make("negative", self)

    def __str__(self) -> str:
        return formula(self)


Operand = Expr | float | int
T = TypeVar("T")


def symbol(name: str) -> Expr:
    """An argument of the expression."""
    return Expr("symbol", name=name)


def constant(value: float) -> Expr:
    """A number; it takes the dtype of what it meets."""
    # As a Python number: NumPy's own would keep their dtype, and print it as source.
    return Expr("constant", value=value.item() if hasattr(value, "item") else value)


def _make(kind: str, *args: Operand) -> Expr:
    return Expr(kind, tuple(a if isinstance(a, Expr) else constant(a) for a in args))


def exp(x: Operand) -> Expr:
    return _make("exp", x)


def expm1(x: Operand) -> Expr:
    return _make("expm1", x)


def log(x: Operand) -> Expr:
    return _make("log", x)


def log1p(x: Operand) -> Expr:
    return _make("log1p", x)


def sqrt(x: Operand) -> Expr:
    return _make("sqrt", x)


def absolute(x: Operand) -> Expr:
    return _make("absolute", x)


def sign(x: Operand) -> Expr:
    return _make("sign", x)


def floor(x: Operand) -> Expr:
    return _make("floor", x)


def sin(x: Operand) -> Expr:
    return _make("sin", x)


def cos(x: Operand) -> Expr:
    return _make("cos", x)


def tanh(x: Operand) -> Expr:
    return _make("tanh", x)


def erf(x: Operand) -> Expr:
    return _make("erf", x)


def power(x: Operand, y: Operand) -> Expr:
    return _make("power", x, y)


def minimum(x: Operand, y: Operand) -> Expr:
    return _make("minimum", x, y)


def maximum(x: Operand, y: Operand) -> Expr:
    return _make("maximum", x, y)


def less(x: Operand, y: Operand) -> Expr:
    return _make("less", x, y)


def greater(x: Operand, y: Operand) -> Expr:
    return _make("greater", x, y)


def equal(x: Operand, y: Operand) -> Expr:
    return _make("equal", x, y)


def compare(kind: str, x: Operand, y: Operand) -> Expr:
    """One of the six comparisons by name."""
    return _make(kind, x, y)


def logical_and(x: Operand, y: Operand) -> Expr:
    return _make("logical_and", x, y)


def logical_or(x: Operand, y: Operand) -> Expr:
    return _make("logical_or", x, y)


def logical_not(x: Operand) -> Expr:
    return _make("logical_not", x)


def select(condition: Operand, yes: Operand, no: Operand) -> Expr:
    """``yes`` where the condition holds, else ``no``."""
    return _make("select", condition, yes, no)


def postorder(root: Expr) -> Iterator[Expr]:
    """Every distinct node once, arguments before users."""
    seen: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        node, is_expanded = stack.pop()
        if is_expanded:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((a, False) for a in reversed(node.args))


def num_steps(expression: Expr) -> int:
    """How many steps of arithmetic an expression takes.

    Example:
        >>> x, y = symbol("x"), symbol("y")
        >>> num_steps(x * y + 1)
        2
    """
    return sum(bool(e.args) for e in postorder(expression))


def fold(
    expression: Expr,
    table: Mapping[str, Callable[..., T]],
    symbols: Mapping[str, T],
    number: Callable[[float], T],
) -> T:
    """Read an expression with another meaning for its primitives.

    ``table`` maps a primitive's name to what it does, ``symbols`` an argument's name to
    its value, ``number`` turns a constant into the result type.
    """
    values: dict[int, T] = {}
    for node in postorder(expression):
        if node.kind == "symbol":
            values[id(node)] = symbols[node.name]
        elif node.kind == "constant":
            values[id(node)] = number(node.value)
        else:
            values[id(node)] = table[node.kind](*(values[id(a)] for a in node.args))
    return values[id(expression)]


def symbols(expression: Expr) -> tuple[str, ...]:
    """The names that the expression reads, in order of their first use."""
    return tuple(dict.fromkeys(n.name for n in postorder(expression) if n.name))


def substitute(expression: Expr, values: Mapping[str, Expr]) -> Expr:
    """The expression with others in the place of the symbols that ``values`` names."""
    table = {kind: partial(_make, kind) for kind in PRIMITIVES}
    kept = {name: symbol(name) for name in symbols(expression)}
    return fold(expression, table, kept | dict(values), constant)


def formula(expression: Expr) -> str:
    """The expression as a person writes it.

    Example:
        >>> x = symbol("x")
        >>> formula(1 / (1 + exp(-x)))
        '1 / (1 + exp(-x))'
    """
    return _written(expression, lambda kind: PRIMITIVES[kind].text, "{:g}".format)


def latex(expression: Expr) -> str:
    r"""The expression in LaTeX, without dollar signs; its symbols' names are LaTeX.

    Example:
        >>> x = symbol("x_{1}")
        >>> print(latex(1 / (1 + exp(-x))))
        \frac{1}{1 + e^{-x_{1}}}
    """
    return _written(expression, lambda kind: PRIMITIVES[kind].latex, _latex_number)


def _latex_number(value: float) -> str:
    """A number in LaTeX: 2.5, 10⁻⁸ as a power, infinity as its sign."""
    if value in (float("inf"), float("-inf")):
        return r"\infty" if value > 0 else r"-\infty"
    digits, _, exponent = f"{value:g}".partition("e")
    if not exponent:
        return digits if value == value else r"\mathrm{nan}"
    power = rf"10^{{{int(exponent)}}}"
    return power if digits == "1" else rf"{digits} \cdot {power}"


def _written(
    expression: Expr,
    template_of: Callable[[str], str],
    number: Callable[[float], str],
) -> str:
    """The expression in templates, with parentheses where precedence asks for them."""

    def reading(kind: str) -> Callable[..., tuple[str, int]]:
        template, level = template_of(kind), PRIMITIVES[kind].precedence
        # What stands in braces needs no parentheses; a fraction is one piece, which
        # only an exponent tears apart.
        is_braced = [part.endswith("{{") for part in template.split("{}")[:-1]]
        own = 4 if "^" in template else 3 if all(is_braced) and level < 3 else level

        def write(*args: tuple[str, int]) -> tuple[str, int]:
            parts = []
            for position, (text, inner) in enumerate(args):
                # On equal footing the right operand needs them: a - (b - c).
                needs = inner < level or (inner == level and position > 0)
                if kind == "power" and position == 0:
                    needs = inner <= level or text.startswith("-")
                is_open = level != _CALL and not is_braced[position]
                parts.append(f"({text})" if needs and is_open else text)
            return template.format(*parts), own

        return write

    table = {kind: reading(kind) for kind in PRIMITIVES}
    names = {name: (name, _CALL) for name in symbols(expression)}
    return fold(expression, table, names, lambda v: (number(v), _CALL))[0]


def numpy_source(name: str, arguments: tuple[str, ...], expression: Expr) -> str:
    """The expression as the source of a NumPy function; shared parts are named once."""
    nodes = list(postorder(expression))
    uses = Counter(id(a) for n in nodes for a in n.args)
    written: dict[int, str] = {}
    lines: list[str] = []
    for node in nodes:
        if node.kind == "symbol":
            text = node.name
        elif node.kind == "constant":
            text = _literal(node.value)
        else:
            parts = (written[id(a)] for a in node.args)
            text = PRIMITIVES[node.kind].source.format(*parts)
            if uses[id(node)] > 1:
                lines.append(f"    t{len(lines)} = {text}")
                text = f"t{len(lines) - 1}"
        written[id(node)] = text
    header = f"def numpy_{name}({', '.join(arguments)}):"
    return "\n".join([header, *lines, f"    return {written[id(expression)]}"])


def _literal(value: float) -> str:
    """A number as Python source, which has no words for infinity and NaN."""
    return repr(value) if np.isfinite(value) else f"float('{value}')"


def _erf(x: Any) -> Any:
    # scipy costs more to import than all of chainrule; few nets use erf.
    from scipy.special import erf as scipy_erf

    return scipy_erf(x)


def numpy_function(
    name: str, arguments: tuple[str, ...], expression: Expr
) -> Callable[..., Any]:
    """The expression as a NumPy function of arrays.

    A single primitive becomes the NumPy function itself. Overflow, log(0) and division
    by 0 give their IEEE results without a warning.
    """
    direct = getattr(np, expression.kind, None)
    used = [PRIMITIVES[n.kind] for n in postorder(expression) if n.args]
    # Several primitives together can always come to inf - inf or 0·inf.
    is_partial = len(used) > 1 or any(p.is_partial for p in used)
    operands = tuple(a.name for a in expression.args)
    if isinstance(direct, np.ufunc) and operands == arguments and not is_partial:
        return direct
    function = _compiled(name, numpy_source(name, arguments, expression))
    return quietly(function) if is_partial else function


_quiet = copy_context()
_quiet.run(np.seterr, all="ignore")


def quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without NumPy's warnings of overflow, NaN and division by 0.

    ``np.errstate`` does the same, but reads its settings anew at every call.
    """

    def run(*arrays: Any) -> Any:
        return _quiet.copy().run(function, *arrays)

    return run


def _compiled(name: str, source: str) -> Callable[..., Any]:
    namespace: dict[str, Any] = {
        kind: getattr(np, kind) for kind in PRIMITIVES if hasattr(np, kind)
    }
    namespace |= {"where": np.where, "erf": _erf, "empty_like": np.empty_like}
    # The text comes from the tables above, never from a user.
    exec(compile(source, f"<numpy {name}>", "exec"), namespace)
    return namespace[f"numpy_{name}"]


def in_place_source(
    name: str,
    arguments: tuple[str, ...],
    numbers: Collection[str],
    assignments: Mapping[str, Expr],
) -> str:
    """Assignments to arguments as the source of a NumPy function that carries them out.

    ``numbers`` are the arguments without axes; all others have one shape, so that an
    intermediate array can be overwritten once it was read for the last time.
    """
    arrays = [a for a in arguments if a not in numbers]
    lines: list[str] = []
    num_scratch = 0
    for target, expression in assignments.items():
        written, used = _in_place_lines(target, expression, arrays)
        lines += written
        num_scratch = max(num_scratch, used)
    allocations = [f"    t{i} = empty_like({arrays[0]})" for i in range(num_scratch)]
    header = f"def numpy_{name}({', '.join(arguments)}):"
    return "\n".join([header, *allocations, *lines])


def _in_place_lines(
    target: str, expression: Expr, arrays: Collection[str]
) -> tuple[list[str], int]:
    """Source lines that end with the value in ``target``; how many scratch arrays."""

    def key(node: Expr) -> str | int:
        return node.name or id(node)

    nodes = list(postorder(expression))
    reads_left = Counter(key(a) for n in nodes for a in n.args)
    # Arrays that may be overwritten: the target itself too, once its old value is used.
    own = {target}
    free: list[str] = []
    num_scratch = 0
    text: dict[str | int, str] = {}
    lines: list[str] = []
    for node in nodes:
        operands = [text[key(a)] for a in node.args]
        if node.kind == "symbol":
            text[key(node)] = node.name
        elif node.kind == "constant":
            text[key(node)] = _literal(node.value)
        elif not any(part in arrays or part in own for part in operands):
            text[key(node)] = PRIMITIVES[node.kind].source.format(*operands)
        else:
            for a, part in zip(node.args, operands, strict=True):
                reads_left[key(a)] -= 1
                if not reads_left[key(a)] and part in own:
                    free.append(part)
            if node is expression:
                free.append(target)
            elif not free:
                free.append(f"t{num_scratch}")
                own.add(free[-1])
                num_scratch += 1
            text[key(node)] = free.pop()
            lines.append(
                f"    {node.kind}({', '.join(operands)}, out={text[key(node)]})"
            )
    return lines, num_scratch


def in_place_function(
    name: str,
    arguments: tuple[str, ...],
    numbers: Collection[str],
    assignments: Mapping[str, Expr],
) -> Callable[..., None]:
    """Assignments to arguments, one after another, as a NumPy function of arrays.

    It makes few arrays, for making one costs as much as the arithmetic on it. Every
    primitive must be a NumPy ufunc.
    """
    source = in_place_source(name, arguments, numbers, assignments)
    return quietly(_compiled(name, source))
