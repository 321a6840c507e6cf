"""Small programs of formulas, as a person types them: ``f=w*x; L=(f-y)**2``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from chainrule.core.graph import FUNCTIONS, Tensor
from chainrule.errors import OptionError

__all__ = ["run_program"]

_OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
}
_CALLS = {
    "abs", "cos", "elu", "erf", "exp", "gelu", "leaky_relu", "log", "log1p", "maximum",
    "minimum", "relu", "sigmoid", "silu", "sin", "softplus", "sqrt", "square", "tanh",
}  # fmt: skip
_EXAMPLE = "f=w*x; L=0.5*(f-y)**2"


def run_program(text: str, values: Mapping[str, float]) -> dict[str, Tensor]:
    """Every name of the program with its value, in float64, ready to be explained.

    The text is formulas between semicolons or on lines: names, numbers, + - * / **,
    parentheses and calls such as relu(x). Nothing else runs.

    Raises:
        OptionError: for anything that is not such a program, or a name without a value.

    Example:
        >>> names = run_program("f=w*x; L=f**2", {"w": 3.0, "x": 2.0})
        >>> names["L"].item()
        36.0
    """
    names: dict[str, Tensor] = {
        name: Tensor(value, "float64", requires_grad=True, name=name)
        for name, value in values.items()
    }
    try:
        tree = ast.parse(text.replace(";", "\n").replace("\n ", "\n").strip())
    except SyntaxError as error:
        raise OptionError(
            "not a program of formulas", got=error.msg, expected=_EXAMPLE
        ) from None
    for line in tree.body:
        is_formula = isinstance(line, ast.Assign) and len(line.targets) == 1
        if not is_formula or not isinstance(line.targets[0], ast.Name):  # type: ignore[attr-defined]
            raise OptionError(
                "a line is not a formula for a name",
                got=ast.unparse(line),
                expected=_EXAMPLE,
            )
        assert isinstance(line, ast.Assign)
        name = line.targets[0].id
        value = _evaluate(line.value, names)
        # A new tensor for a plain number or another name, so that each has its own.
        result = value * 1 if value.op is None or value.name else value
        result.name = name
        names[name] = result
    return names


def _evaluate(node: ast.expr, names: Mapping[str, Tensor]) -> Tensor:
    """The value of a formula."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        return Tensor(float(node.value), "float64")
    if isinstance(node, ast.Name):
        if node.id not in names:
            raise OptionError.unknown("name in a formula", node.id, names)
        return names[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, names)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _evaluate(node.left, names), _evaluate(node.right, names)
        is_number = isinstance(node.right, ast.Constant)
        operator = _function(_OPERATORS[type(node.op)])
        if isinstance(node.op, ast.Pow) and is_number:
            exponent = right.item()
            whole = int(exponent) == exponent
            return operator(left, int(exponent) if whole else exponent)
        return operator(left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id not in _CALLS:
            raise OptionError.unknown("function in a formula", node.func.id, _CALLS)
        if not node.keywords:
            return _function(node.func.id)(*(_evaluate(a, names) for a in node.args))
    raise OptionError(
        "a formula has something that is not arithmetic",
        got=ast.unparse(node),
        expected=f"names, numbers, + - * / ** and calls, as in {_EXAMPLE}",
    )


def _function(name: str) -> Callable[..., Any]:
    return FUNCTIONS[name]
