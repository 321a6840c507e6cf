"""Small programs of formulas, as a person types them: ``f=w*x; L=(f-y)**2``."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from chainrule.core.graph import FUNCTIONS, OPS, Tensor, as_tensor
from chainrule.errors import OptionError
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["run_program"]

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.MatMult: "matmul",
}
_OVER_ENTRIES = (
    "sum", "mean", "max", "min", "norm", "logsumexp", "softmax", "log_softmax",
)  # fmt: skip
_OF_SEVERAL_OPS = ("log_sigmoid", "silu", "square")
_EXAMPLE = "f=w*x; L=0.5*(f-y)**2"

_MAX_TEXT = 4000
_MAX_NESTING = 100
_MAX_EXPONENT = 1 << 53  # whole numbers that a float64 holds
_MAX_VALUE = 1000  # entries of one value that is given
_MAX_RESULT = 100_000  # and of one that is computed


def _calls() -> set[str]:
    """The functions that a formula may call: elementwise ops and a few reductions."""
    elementwise = {n for n, op in OPS.items() if issubclass(op, ElementwiseOp)}
    return ({*elementwise, *_OF_SEVERAL_OPS} & FUNCTIONS.keys()) | {*_OVER_ENTRIES}


def run_program(text: str, values: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every name of the program with its value, in float64, ready to be explained.

    The text is formulas between semicolons or on lines: names, numbers, + - * / ** @,
    parentheses, calls such as relu(x) and sum(x), x.T and x[0, 1]. The last may stand
    without a name; it is then called f. Nothing else runs.

    Args:
        text: the program.
        values: a number or nested lists of numbers for each name that is given.

    Raises:
        OptionError: for anything that is not such a program, a name without a value, a
            value that is no array, and what is too long, too deep or too large.
        ShapeError: where arrays do not fit together.

    Example:
        >>> names = run_program("q=W@x; sum(q**2)", {"W": [[1, 2]], "x": [3.0, 1.0]})
        >>> names["q"].tolist(), names["f"].item()
        ([5.0], 25.0)
    """
    names = {name: _given(name, value) for name, value in values.items()}
    lines = _parsed(text)
    for number, line in enumerate(lines, start=1):
        name, formula = _assignment(line, number == len(lines), names)
        with np.errstate(all="ignore"):  # infinities are explained, not warned of
            value = _Formula(names).value(formula)
        # A new tensor for a plain number or another name, so that each has its own.
        result = value * 1 if value.op is None or value.name else value
        result.name = name
        names.pop(name, None)  # so that the latest stands last
        names[name] = result
    return names


def _given(name: str, value: Any) -> Tensor:
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError
    except ValueError:
        raise OptionError(
            f"{name}: not an array of numbers",
            got=_short(str(value)),
            expected="a number, or lists of equal lengths: [[1, 2], [3, 4]]",
        ) from None
    if array.size > _MAX_VALUE:
        raise OptionError(
            f"{name}: too large for a formula on the command line",
            got=f"{array.size} entries",
            expected=f"at most {_MAX_VALUE}",
            hint="chainrule.explain() takes tensors of any size",
        )
    return Tensor(array, "float64", requires_grad=True, name=name)


def _parsed(text: str) -> list[ast.stmt]:
    if len(text) > _MAX_TEXT:
        raise OptionError(
            "the program is too long",
            got=f"{len(text)} characters",
            expected=f"at most {_MAX_TEXT}",
        )
    lines = [line.strip() for line in text.replace(";", "\n").splitlines()]
    try:
        tree = ast.parse("\n".join(line for line in lines if line))
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise OptionError(
            "not a program of formulas", got=reason, expected=_EXAMPLE
        ) from None
    except (RecursionError, MemoryError):
        raise _too_deep() from None
    if not tree.body:
        raise OptionError("not a program of formulas", got="nothing", expected=_EXAMPLE)
    return tree.body


def _assignment(
    line: ast.stmt, is_last: bool, names: Mapping[str, Tensor]
) -> tuple[str, ast.expr]:
    """A name and its formula; the last formula may have no name."""
    if isinstance(line, ast.Assign) and len(line.targets) == 1:
        (target,) = line.targets
        if isinstance(target, ast.Name):
            return target.id, line.value
    if isinstance(line, ast.Expr) and is_last:
        free = (name for name in ("f", "g", "h") if name not in names)
        return next(free, "result"), line.value
    raise OptionError(
        "a line is not a formula for a name",
        got=_source(line),
        expected=_EXAMPLE,
        hint="only the last formula may stand without a name",
    )


class _Formula:
    """One formula, computed from the values of names."""

    def __init__(self, names: Mapping[str, Tensor]) -> None:
        self.names = names
        self._depth = 0

    def value(self, node: ast.expr) -> Tensor:
        """The value of a part of the formula."""
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise _too_deep()
        found = self._value(node)
        self._depth -= 1
        if found.size > _MAX_RESULT:
            raise OptionError(
                "a formula makes too large an array",
                got=f"{_source(node)}: {found.spec}",
                expected=f"at most {_MAX_RESULT} entries",
            )
        return found

    def _value(self, node: ast.expr) -> Tensor:
        constant = _constant(node)
        if constant is not None:
            return Tensor(float(constant), "float64")
        if isinstance(node, ast.Name):
            if node.id not in self.names:
                raise OptionError.unknown("name in a formula", node.id, self.names)
            return self.names[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            value = self.value(node.operand)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return self._binary(node, _OPERATORS[type(node.op)])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node, node.func.id)
        if isinstance(node, ast.Attribute) and node.attr == "T":
            return as_tensor(FUNCTIONS["transpose"](self.value(node.value)))
        if isinstance(node, ast.Subscript):
            key = _key(node.slice)
            if key is not None:
                return as_tensor(FUNCTIONS["index"](self.value(node.value), key))
        raise _not_arithmetic(node)

    def _binary(self, node: ast.BinOp, operator: str) -> Tensor:
        left, right = self.value(node.left), _constant(node.right)
        if operator == "power" and right is not None:
            whole = abs(right) <= _MAX_EXPONENT and int(right) == right
            exponent = int(right) if whole else right
            return as_tensor(FUNCTIONS["power"](left, exponent))
        return as_tensor(FUNCTIONS[operator](left, self.value(node.right)))

    def _call(self, node: ast.Call, name: str) -> Tensor:
        calls = _calls()
        if name not in calls:
            raise OptionError.unknown("function in a formula", name, calls)
        if node.keywords:
            raise _not_arithmetic(node)
        function: Callable[..., Any] = FUNCTIONS[name]
        # A function's settings are plain numbers: the slope of leaky_relu(x, 0.1).
        settings = [_constant(a) if i else None for i, a in enumerate(node.args)]
        given = [
            self.value(a) if s is None else s
            for a, s in zip(node.args, settings, strict=True)
        ]
        try:
            inspect.signature(function).bind(*given)
        except TypeError as error:
            raise OptionError(
                f"{name} takes other operands",
                got=f"{_source(node)}: {error}",
                expected=f"{name}({', '.join(inspect.signature(function).parameters)})",
            ) from None
        if any(map(_is_wrong, inspect.signature(function).parameters.values(), given)):
            raise _not_arithmetic(node)
        return as_tensor(function(*given))


def _is_wrong(parameter: inspect.Parameter, given: Any) -> bool:
    """Whether a setting of a function is given as a tensor, or is a word."""
    is_setting = parameter.default is not inspect.Parameter.empty
    return is_setting and (isinstance(given, Tensor) or parameter.annotation == "str")


def _constant(node: ast.expr) -> float | int | None:
    """A number that is written out, perhaps with a sign."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if not isinstance(node, ast.Constant) or type(node.value) not in (int, float):
        return None
    try:
        float(node.value)  # type: ignore[arg-type]
    except OverflowError:
        raise OptionError(
            "a number is too large",
            got=_short(_source(node)),
            expected="at most 1.8e308",
        ) from None
    return sign * node.value  # type: ignore[operator, return-value]


def _key(node: ast.expr) -> Any:
    """An index of integers and slices, or None."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    found: list[Any] = []
    for part in parts:
        if isinstance(part, ast.Slice):
            ends = [part.lower, part.upper, part.step]
            numbers = [None if e is None else _constant(e) for e in ends]
            if any(e is not None and type(n) is not int
                   for e, n in zip(ends, numbers, strict=True)):  # fmt: skip
                return None
            found.append(slice(*numbers))
        elif type(_constant(part)) is int:
            found.append(_constant(part))
        else:
            return None
    return tuple(found)


def _source(node: ast.AST) -> str:
    try:
        return _short(ast.unparse(node))
    except RecursionError:
        return "a formula"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _too_deep() -> OptionError:
    return OptionError(
        "a formula is nested too deeply",
        got=f"more than {_MAX_NESTING} levels",
        expected=f"at most {_MAX_NESTING}",
        hint="give parts of it names: h=...; f=h+...",
    )


def _not_arithmetic(node: ast.expr) -> OptionError:
    return OptionError(
        "a formula has something that is not arithmetic",
        got=_source(node),
        expected=f"names, numbers, + - * / ** @ and calls, as in {_EXAMPLE}",
    )
