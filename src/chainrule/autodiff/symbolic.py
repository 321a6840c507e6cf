"""Derivatives as formulas: SymPy's reading of scalar expressions and small graphs.

A referee that shares no rule with the rest: SymPy differentiates the expression that an
op states, chainrule's own gradient rules are not consulted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from chainrule.core import scalar
from chainrule.core.graph import Op, as_tensor
from chainrule.core.spec import FLOAT64
from chainrule.core.trace import Graph
from chainrule.errors import GradientError, MissingDependencyError, OptionError
from chainrule.ops.elementwise import ElementwiseOp

__all__ = [
    "SymbolicGradient",
    "symbolic_derivative",
    "symbolic_expression",
    "symbolic_gradient",
]

_MAX_SYMBOLS = 64  # formulas swell; beyond this they help nobody


def _sympy() -> Any:
    try:
        import sympy  # an optional extra, and half a second to import
    except ImportError:
        raise MissingDependencyError(
            "symbolic derivatives need SymPy",
            got="no module named sympy",
            expected="sympy 1.12 or later",
            hint="pip install 'chainrule[symbolic]'",
        ) from None
    return sympy


def _primitives(sympy: Any) -> dict[str, Callable[..., Any]]:
    """What each primitive of a scalar expression means to SymPy."""
    return {
        "add": lambda x, y: x + y,
        "subtract": lambda x, y: x - y,
        "multiply": lambda x, y: x * y,
        "divide": lambda x, y: x / y,
        "negative": lambda x: -x,
        "power": lambda x, y: x**y,
        "exp": sympy.exp,
        "expm1": lambda x: sympy.exp(x) - 1,
        "log": sympy.log,
        "log1p": lambda x: sympy.log(1 + x),
        "sqrt": sympy.sqrt,
        "absolute": sympy.Abs,
        "sign": sympy.sign,
        "floor": sympy.floor,
        "sin": sympy.sin,
        "cos": sympy.cos,
        "tanh": sympy.tanh,
        "erf": sympy.erf,
        "minimum": sympy.Min,
        "maximum": sympy.Max,
        "equal": sympy.Eq,
        "less": sympy.Lt,
        "less_equal": sympy.Le,
        "greater": sympy.Gt,
        "greater_equal": sympy.Ge,
        "not_equal": sympy.Ne,
        "logical_and": sympy.And,
        "logical_or": sympy.Or,
        "logical_not": sympy.Not,
        "select": lambda c, x, y: sympy.Piecewise((x, c), (y, True)),
    }


def _exact(value: float) -> Any:
    """A float as the SymPy number that equals it: 2 stays 2, 0.5 becomes 1/2."""
    sympy = _sympy()
    if np.isinf(value):
        return sympy.oo if value > 0 else -sympy.oo
    return sympy.Rational(value)


def _read(op: ElementwiseOp, operands: tuple[Any, ...]) -> Any:
    symbols = dict(zip(op.arguments, operands, strict=True))
    return scalar.fold(op.expression, _primitives(_sympy()), symbols, _exact)


def _elementwise(op: Op | type[Op]) -> ElementwiseOp:
    made = op.make() if isinstance(op, type) else op
    if not isinstance(made, ElementwiseOp):
        raise OptionError(
            f"symbolic: {made.name} is not an elementwise op",
            got=made.name,
            expected="an op with a scalar expression",
            hint="symbolic_gradient reads whole functions of few numbers",
        )
    return made


def symbolic_expression(op: Op | type[Op]) -> Any:
    """The SymPy expression of an elementwise op, in its operands' names."""
    made = _elementwise(op)
    sympy = _sympy()
    return _read(made, tuple(sympy.Symbol(a, real=True) for a in made.arguments))


def symbolic_derivative(op: Op | type[Op]) -> tuple[Any, ...]:
    """∂y/∂x of an elementwise op for each operand x, as SymPy expressions.

    Raises:
        OptionError: for an op that is not elementwise.
        MissingDependencyError: without SymPy (extra ``symbolic``).

    Example:
        >>> from chainrule.core.graph import OPS
        >>> symbolic_derivative(OPS["multiply"])
        (y, x)
    """
    made = _elementwise(op)
    sympy = _sympy()
    expression = symbolic_expression(made)
    symbols = [sympy.Symbol(a, real=True) for a in made.arguments]
    if made.is_boolean:
        return (sympy.Integer(0),) * len(symbols)
    return tuple(_slope(expression, s) for s in symbols)


def _slope(expression: Any, symbol: Any) -> Any:
    """The derivative; that of a step, which SymPy leaves open, is 0 off the step."""
    sympy = _sympy()
    return expression.diff(symbol).replace(
        sympy.Derivative, lambda *_: sympy.Integer(0)
    )


def _symbolic_values(graph: Graph) -> tuple[list[Any], Any]:
    """A symbol for each element of the inputs, and the output as a formula of them."""
    sympy = _sympy()
    symbols: list[Any] = []
    values: dict[int, Any] = {}
    for node in graph.nodes:
        if node.op is None:
            array = np.empty(node.spec.shape, object)
            for place in np.ndindex(node.spec.shape):
                if node.kind == "input":
                    name = "_".join([node.name, *map(str, place)])
                    symbols.append(sympy.Symbol(name, real=True))
                    array[place] = symbols[-1]
                elif node.tensor.data.dtype.kind == "f":
                    array[place] = _exact(float(node.tensor.data[place]))
                else:  # labels and indices stay what NumPy can index with
                    array = node.tensor.data
                    break
            values[id(node)] = array
            continue
        operands = [values[id(n)] for n in node.inputs]
        values[id(node)] = np.asarray(_formula_of(node.op, operands), object)
    return symbols, values[id(graph.outputs[0])]


def _formula_of(op: Op, operands: list[Any]) -> Any:
    if isinstance(op, ElementwiseOp):
        read = np.frompyfunc(lambda *x: _read(op, x), len(operands), 1)
        return read(*operands)
    if op.name == "astype":
        return operands[0]
    try:
        return op.compute(*operands)  # sums, products and views work on any object
    except (TypeError, AttributeError):
        raise GradientError(
            f"symbolic: {op.name} has no symbolic reading",
            got=op.formula(*("x" for _ in operands)),
            expected="elementwise ops, sums, matrix products and reshapes",
        ) from None


class SymbolicGradient(NamedTuple):
    """A function of few numbers as a formula, with its derivative by each of them."""

    expression: Any
    symbols: list[Any]
    """One for each element of the inputs, in their order."""
    derivatives: list[Any]

    def evaluate(self, *inputs: Any) -> np.ndarray[Any, Any]:
        """The derivatives at a point, computed with 30 digits, rounded to float64."""
        ends = np.concatenate([as_tensor(x, FLOAT64).data.reshape(-1) for x in inputs])
        point = dict(zip(self.symbols, map(_exact, ends.tolist()), strict=True))
        return np.array([_number(d.subs(point)) for d in self.derivatives])


def _number(value: Any) -> float:
    """A SymPy number; NaN where there is none, as for the slope of √x at 0."""
    found = value.evalf(30)
    if found.is_infinite:
        return float(np.inf if found.is_positive else -np.inf if found.is_negative
                     else np.nan)  # fmt: skip
    return float(found) if found.is_real else float(np.nan)


def symbolic_gradient(
    f: Callable[..., Any], *inputs: Any, **named: Any
) -> SymbolicGradient:
    """The formula of a function of few numbers, and its derivative by each of them.

    ``f`` runs once, to see which ops it is made of; branches it takes are kept.
    Arguments are given as ``f`` takes them: by position, or by name.

    Raises:
        OptionError: for inputs of more than 64 elements.
        GradientError: for an op without symbolic reading.
        MissingDependencyError: without SymPy (extra ``symbolic``).

    Example:
        >>> symbolic_gradient(lambda x, y: x * y + x, 2.0, 3.0).derivatives
        [y + 1, x]
    """
    points = [as_tensor(x, FLOAT64) for x in inputs]
    by_name = {name: as_tensor(x, FLOAT64) for name, x in named.items()}
    size = sum(x.size for x in (*points, *by_name.values()))
    if size > _MAX_SYMBOLS:
        raise OptionError(
            "symbolic: too many symbols",
            got=f"{size} numbers",
            expected=f"at most {_MAX_SYMBOLS}",
            hint="grad() and numerical_gradient() take tensors of any size",
        )
    graph = Graph(f, *points, **by_name)
    symbols, output = _symbolic_values(graph)
    if output.size != 1:
        raise GradientError(
            "symbolic: the function does not return one number",
            got=graph.outputs[0].spec,
            expected="a single element",
        )
    expression = output.item()
    return SymbolicGradient(
        expression, symbols, [_slope(expression, s) for s in symbols]
    )
