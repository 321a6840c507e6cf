"""Tensors read back as formulas, in terms of what has a name."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter

from chainrule.core import scalar
from chainrule.core.graph import Op, Tensor
from chainrule.core.scalar import Expr
from chainrule.explanation.notation import latex_name, pretty_name
from chainrule.explanation.simplification import simplify
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["expression", "is_call", "whole", "written"]

Names = Mapping[int, str]

_MAX_PIECES = 60  # of a formula that can be read

# Of a single number, what moves, sums or picks elements leaves it as it is.
_MOVING = ("passes", "distributes", "routes", "a branch adds up")


def written(read: Expr, *, latex: bool = False) -> str:
    """An expression as text or LaTeX, made short; "" if it is too long to be read."""
    return _text(simplify(read), latex) if _size(read) <= _MAX_PIECES else ""


def whole(read: Expr, t: Tensor, *, latex: bool = False) -> str:
    """The expression of t as it is, and without parentheses around all of it."""
    if _size(read) > _MAX_PIECES:
        assert t.op is not None
        dots = ["…" if not latex else r"\dots"] * len(t.inputs)
        return t.op.latex(*dots) if latex else t.op.formula(*dots)
    return _operand(read, latex)


def is_call(read: Expr) -> bool:
    """Whether an expression is one gate, written as a call: an index may follow."""
    return read.kind == "symbol" and not read.name.startswith("(")


def _text(read: Expr, latex: bool) -> str:
    return scalar.latex(read) if latex else scalar.formula(read)


def _size(read: Expr) -> int:
    """How many pieces the formula has, those that are shared each time they appear."""

    def joined(*args: int) -> int:
        return 1 + sum(args)

    table = dict.fromkeys(scalar.PRIMITIVES, joined)
    names = dict.fromkeys(scalar.symbols(read), 1)
    return scalar.fold(read, table, names, lambda _: 1)


def expression(
    t: Tensor,
    names: Names,
    known: Mapping[int, Expr] | None = None,
    *,
    latex: bool = False,
    inside: bool = False,
) -> Expr:
    """A tensor in terms of named values and numbers.

    Args:
        t: what is read.
        names: by the ids of tensors.
        known: expressions of further tensors, by id.
        latex: writes names, and ops that mix elements, in LaTeX.
        inside: says how t is made, though it has a name.
    """
    read: dict[int, Expr] = dict(known or {})
    write = latex_name if latex else pretty_name
    opened = t if inside else None
    for node in _history(t, names, read, opened):
        if node is not opened and id(node) in names:
            read[id(node)] = scalar.symbol(write(names[id(node)]))
        elif node.op is None:
            is_number = node.size == 1
            read[id(node)] = (
                scalar.constant(node.item())
                if is_number
                else scalar.symbol(write(str(node.spec)))
            )
        else:
            operands = [read[id(i)] for i in node.inputs]
            # A named value with another shape is another value.
            is_shown = node is opened and id(node.inputs[0]) in names
            read[id(node)] = _gate(node, node.op, operands, latex, is_shown)
    return read[id(t)]


def _history(
    t: Tensor, names: Names, known: Mapping[int, Expr], opened: Tensor | None
) -> list[Tensor]:
    """What t is made of down to named and known tensors, operands before users."""
    seen: dict[int, Tensor] = {}
    stack = [t]
    while stack:
        node = stack.pop()
        if id(node) in seen or id(node) in known:
            continue
        seen[id(node)] = node
        if node is opened or id(node) not in names:
            stack += node.inputs
    leaves = [n for n in seen.values() if n.op is None]
    made = [n for n in seen.values() if n.op is not None]
    return leaves + sorted(made, key=attrgetter("order"))


def _gate(t: Tensor, op: Op, operands: list[Expr], latex: bool, is_shown: bool) -> Expr:
    if isinstance(op, ElementwiseOp):
        return op.scalar(*operands)
    is_same = t.size == t.inputs[0].size == 1 and _verb(op) in _MOVING
    adds_axes = _adds_axes(t, op) and not is_shown
    if len(operands) == 1 and (is_same or adds_axes):
        return operands[0]
    write = op.latex if latex else op.formula
    call = write(*(_operand(x, latex) for x in operands))
    if call.endswith(")"):
        return scalar.symbol(call)
    # As one piece, made of pieces: what follows sees a name.
    return scalar.symbol(f"({write(*(_piece(x, latex) for x in operands))})")


def _operand(read: Expr, latex: bool) -> str:
    """An expression between the parentheses of a call."""
    if _size(read) > _MAX_PIECES:
        return r"\dots" if latex else "…"
    text = _text(read, latex)
    is_piece = read.kind == "symbol" and text.startswith("(")
    return text[1:-1] if is_piece else text


def _piece(read: Expr, latex: bool) -> str:
    """An expression beside an operator."""
    text = _operand(read, latex)
    is_name = read.kind in ("symbol", "constant") and text == _text(read, latex)
    return text if is_name or text in ("…", r"\dots") else f"({text})"


def _verb(op: Op) -> str:
    return op.pattern.partition(":")[0]


def _adds_axes(t: Tensor, op: Op) -> bool:
    """Whether a gate only adds or drops axes of size 1, as around a product."""
    long, before = ([n for n in x.shape if n > 1] for x in (t, t.inputs[0]))
    return op.name == "reshape" and long == before
