"""Definitions without what need not be computed: the second pass.

Equal values become one, arithmetic with neutral numbers disappears, numbers made of
numbers are worked out, and what nothing depends on is dropped.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from chainrule.compiler.ir import (
    Access,
    Contract,
    Convolution,
    Definitions,
    Dynamic,
    Join,
    Leaf,
    Map,
    Node,
    Place,
    Reduce,
    Scan,
    Scatter,
    Spread,
    identity,
    reachable,
)
from chainrule.core import scalar
from chainrule.core.scalar import Expr

__all__ = ["rebuilt", "simplify", "structure", "with_operands"]


def simplify(given: Definitions) -> Definitions:
    """The same function with fewer values."""
    renamed: dict[Node, Node] = {}
    known: dict[Hashable, Node] = {}
    rectified: dict[tuple[Access, ...], Node] = {}
    roots = [*given.outputs, *(node for _, node in given.assignments)]
    for node in reachable(roots):
        current = with_operands(node, renamed)
        if isinstance(current, Map) and current.expression is not None:
            short = _reduced(current.expression)
            if short is not current.expression:
                current = _of_expression(current, short)
            is_copy = current.is_view and current.accesses[0].is_identity
            if is_copy and not current.margins:
                source = current.accesses[0].node
                if source.shape == current.shape and source.dtype == current.dtype:
                    renamed[node] = source
                    continue
            if _is_of_zero(current.expression, "greater"):
                # max(x, 0) > 0 says the same as x > 0, and has to be stored anyway.
                same = rectified.get(current.accesses)
                if same is not None and same.shape == current.shape:
                    own = Access(same, identity(len(same.shape)))
                    current = replace(current, accesses=(own,))
        key = _key(current)
        kept: Node = known.setdefault(key, current) if key else current
        renamed[node] = kept
        if isinstance(kept, Map) and _is_of_zero(kept.expression, "maximum"):
            rectified.setdefault(kept.accesses, kept)
    made = Definitions()
    made.outputs = [renamed[n] for n in given.outputs]
    made.assignments = [
        (variable, renamed[node])
        for variable, node in given.assignments
        if renamed[node] is not variable
    ]
    roots = [*made.outputs, *(node for _, node in made.assignments)]
    inputs = [n for n in given.nodes if isinstance(n, Leaf) and n.kind == "input"]
    used = list(reachable(roots))
    made.nodes = [*(n for n in inputs if n not in set(used)), *used]
    return made


def rebuilt(
    given: Definitions, nodes: list[Node], renamed: dict[Node, Node]
) -> Definitions:
    """Other values for a function's, and what is returned and assigned now."""
    return Definitions(
        nodes,
        [renamed[n] for n in given.outputs],
        [(variable, renamed[n]) for variable, n in given.assignments],
    )


def with_operands(node: Node, renamed: dict[Node, Node]) -> Node:
    """The node, reading what its operands became."""
    if not any(n in renamed and renamed[n] is not n for n in _reads(node)):
        return node
    if isinstance(node, (Contract, Convolution)):
        a, b = (_access(x, renamed) for x in (node.a, node.b))
        return replace(node, a=a, b=b)
    if isinstance(node, Spread) and node.images is not None:
        access, images = (_access(x, renamed) for x in (node.access, node.images))
        return replace(node, access=access, images=images)
    if isinstance(node, Scatter):
        places = tuple(_place(p, renamed) for p in node.places)
        return replace(node, access=_access(node.access, renamed), places=places)
    if hasattr(node, "accesses"):
        accesses = tuple(_access(x, renamed) for x in node.accesses)
        return replace(node, accesses=accesses)  # type: ignore[call-arg]
    return replace(node, access=_access(node.access, renamed))  # type: ignore


def _reads(node: Node) -> list[Node]:
    from chainrule.compiler.ir import sources

    return list(sources(node))


def _access(access: Access, renamed: dict[Node, Node]) -> Access:
    places = tuple(_place(p, renamed) for p in access.places)
    return Access(renamed.get(access.node, access.node), places)


def _place(place: Place, renamed: dict[Node, Node]) -> Place:
    if isinstance(place, Dynamic):
        return Dynamic(_access(place.access, renamed), place.size)
    return place


def _is_of_zero(expression: Expr | None, kind: str) -> bool:
    """Whether an expression is ``kind`` of its one operand and 0."""
    return (
        expression is not None
        and expression.kind == kind
        and expression.args[0].kind == "symbol"
        and expression.args[1].kind == "constant"
        and expression.args[1].value == 0
    )


def _of_expression(node: Map, expression: Expr) -> Map:
    """The map with another expression, and only the operands that it reads."""
    used = [a for i, a in enumerate(node.accesses)
            if f"x{i}" in scalar.symbols(expression)]  # fmt: skip
    names = {
        f"x{i}": scalar.symbol(f"x{used.index(a)}")
        for i, a in enumerate(node.accesses)
        if a in used
    }
    return replace(
        node,
        expression=scalar.substitute(expression, names),
        accesses=tuple(used),
    )


def _reduced(expression: Expr) -> Expr:
    """Arithmetic with neutral numbers left out: only where no bit can change."""

    def make(kind: str) -> Any:
        def rebuilt(*args: Expr) -> Expr:
            left, right = (*args, None)[:2]
            if right is not None and right.kind == "constant":
                if kind in ("multiply", "divide") and right.value == 1:
                    return args[0]
                if kind == "subtract" and right.value == 0:
                    return args[0]
            if (
                kind == "multiply"
                and left is not None
                and left.kind == "constant"
                and left.value == 1
            ):
                return args[1]
            return Expr(kind, args)

        return rebuilt

    table = {kind: make(kind) for kind in scalar.PRIMITIVES}
    names = {name: scalar.symbol(name) for name in scalar.symbols(expression)}
    short = scalar.fold(expression, table, names, scalar.constant)
    return short if structure(short) != structure(expression) else expression


def structure(expression: Expr) -> Hashable:
    """The expression as a value that can be compared."""
    if expression.kind == "symbol":
        return expression.name
    if expression.kind == "constant":
        return ("constant", repr(expression.value))
    return (expression.kind, *(structure(a) for a in expression.args))


def _key(node: Node) -> Hashable | None:
    """What two values must share to be one; None for what is itself alone."""
    common = (
        type(node).__name__, node.shape, node.dtype.name, node.margins, node.fill
    )  # fmt: skip
    if isinstance(node, Map):
        expression = None if node.expression is None else structure(node.expression)
        return (*common, node.kind, expression, node.accesses, node.setting)
    if isinstance(node, Reduce):
        return (*common, node.kind, node.extents, node.access)
    if isinstance(node, Contract):
        return (*common, node.a, node.b, node.depth, node.total)
    if isinstance(node, Scan):
        return (*common, node.access, node.axis)
    if isinstance(node, Convolution):
        return (*common, node.by, node.a, node.b, node.geometry)
    if isinstance(node, Join):
        return (*common, node.accesses, node.axis, node.sizes)
    if isinstance(node, Spread):
        return (*common, node.access, node.images, node.geometry)
    return None
