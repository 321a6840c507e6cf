"""Gates and values in a few letters: signs, formulas, shapes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from chainrule.core.capture import Node as CapturedNode
from chainrule.core.op import Op
from chainrule.core.size import Number
from chainrule.core.trace import Node
from chainrule.explanation.notation import pretty_name

__all__ = [
    "AnyNode",
    "formula_of",
    "is_number",
    "operands",
    "shape_text",
    "sign_of",
]

AnyNode = Node | CapturedNode

_SIGNS = {
    "multiply": "×",
    "subtract": "−",
    "divide": "÷",
    "negative": "−",
    "sigmoid": "σ",
    "matmul": "@",
    "sum": "Σ",
}
_INFIX = re.compile(r"a ?([^\w\s(),|]+) ?b")


def is_number(node: AnyNode) -> bool:
    """Whether a leaf is a plain number, which gates write out."""
    if node.kind == "number":
        return True
    return node.kind == "constant" and node.tensor is not None and node.spec.size == 1


def sign_of(node: AnyNode) -> str:
    """What stands in a gate: its sign, with a number that it adds or multiplies by.

    Example:
        >>> import chainrule as cr
        >>> x = cr.Tensor(3.0, requires_grad=True)
        >>> graphs = [cr.Graph.of(y) for y in (x * x, 1 - x, x**2, cr.sigmoid(x))]
        >>> [sign_of(graph.outputs[0]) for graph in graphs]
        ['×', '1 −', '( )²', 'σ']
    """
    op = node.op
    assert op is not None
    formula = _formula(op) if len(node.inputs) == 2 else ""
    infix = _INFIX.fullmatch(formula)
    sign = _SIGNS.get(op.name) or (infix[1] if infix else op.name.replace("_", " "))
    if op.name == "power_constant":
        exponent = op.formula("a").removeprefix("a")
        return "( )" + {"^2": "²", "^3": "³"}.get(exponent, exponent)
    if op.name == "matmul":  # with the sign of transposition where it has one
        return formula.replace("a", "").replace("b", "").replace(" ", "")
    if len(node.inputs) != 2:
        return sign
    left, right = (_literal(n) if is_number(n) else "" for n in node.inputs)
    if infix or op.name in _SIGNS:
        return f"{left} {sign} {right}".strip()
    return f"{sign} {left or right}".strip()


@lru_cache(maxsize=512)
def _formula(op: Op) -> str:
    return op.formula(*"ab")


def _literal(node: AnyNode) -> str:
    """How a plain number is written."""
    if isinstance(node, CapturedNode):
        return node.literal or node.name
    return f"{node.tensor.item():g}".replace("-", "−")


def operands(node: AnyNode) -> tuple[AnyNode, ...]:
    """What a node was made of."""
    return node.inputs


def formula_of(node: AnyNode) -> str:
    """How a node is made, with names as the lectures write them."""
    assert node.op is not None
    names = (_literal(n) if is_number(n) else pretty_name(n.name) for n in node.inputs)
    return node.op.formula(*names).replace("-", "−")


def shape_text(shape: Sequence[object]) -> str:
    """A shape as 32×32×16, with n for a number of examples that is not known.

    Example:
        >>> shape_text((32, 32, 16)), shape_text((16,)), shape_text(())
        ('32×32×16', '16 entries', 'a number')
    """
    sizes = [str(n.expression if isinstance(n, Number) else n) for n in shape]
    if len(sizes) == 1:
        return f"{sizes[0]} entries"
    return "×".join(sizes) or "a number"
