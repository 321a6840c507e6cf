"""Single entries as graphs of their own, and their local derivatives as formulas."""

from __future__ import annotations

import numpy as np

from chainrule.core.backward import topological_order
from chainrule.core.graph import Tensor, record
from chainrule.core.trace import tracing
from chainrule.explanation.derivation import Factor, Step
from chainrule.explanation.gates import Place, operand_entry, remark, verb
from chainrule.explanation.notation import entry_name, latex_name, number, pretty_name
from chainrule.explanation.paths import Paths
from chainrule.explanation.reading import expression, is_call, whole
from chainrule.explanation.span import Span
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["Seen", "factor", "step"]

Seen = dict[int, tuple[float, Tensor]]
"""By a station's id: its derivatives are this number times an entry of that operand."""

_MAX_INSIDE = 40  # gates that are written into one formula
_MAX_VERBS = 4


def factor(
    span: Span,
    t: Tensor,
    place: Place,
    station: Tensor,
    at: Place,
    slope: float,
    seen: Seen,
) -> Factor:
    """∂station[at]/∂t[place], its formula as far as it has a short one.

    ``seen`` is filled with what other derivatives by the same entry turned out to be.
    """
    gates = _gates(span, t, station)
    acting = [g for g in gates if not _only_moves(g)] or gates
    told = [*map(verb, acting[:_MAX_VERBS]), *["…"][: len(acting) - _MAX_VERBS]]
    note = ""
    if len(acting) == 1 and acting[0].op is not None:
        note = remark(acting[0].op.name, slope)
    text = latex = number(slope)
    small = _of_one_element(span, t, place, station, at)
    # Other ways may lead there as well, through gates that mix entries.
    if small is not None and _agree(small.value, slope):
        text, latex = small.formula, small.latex_formula
        note = note or small.note
    else:
        found = _known_entry(slope, seen.get(id(station)))
        found = found or operand_entry(gates, at, t, place)
        if found is not None and found[1] is not None:
            seen[id(station)] = found[0], found[1]
        name = _entry(span, *found[1:]) if found else ""
        if found and name:
            text, latex = _scaled(found[0], name)
        elif found is None and len(acting) == 1 and acting[0].op is not None:
            # No short formula: the gate's rule, in its own words.
            told = [f"{acting[0].op.name} {acting[0].op.pattern}"]
    return Factor(
        of=entry_name(span.names[id(station)], at),
        by=entry_name(span.names[id(t)], place),
        formula=text,
        value=slope,
        gate=", ".join(told),
        note=note,
        latex_formula=latex,
    )


def step(span: Span, t: Tensor, place: Place) -> Step:
    """How one entry of a station was computed."""
    element = _Element(span)
    root = element.of(t, place)
    texts = []
    for latex in (False, True):
        if element.mixes or root.op is None:
            read = expression(t, span.names, latex=latex, inside=True)
            text = whole(read, t, latex=latex)
            texts.append(_picked(text, place, latex, is_call(read)))
        else:
            read = expression(root, element.names, latex=latex, inside=True)
            texts.append(whole(read, root, latex=latex))
    name = entry_name(span.names[id(t)], place)
    return Step(name, texts[0], float(t.data[place]), texts[1])


def _known_entry(
    slope: float, like: tuple[float, Tensor] | None
) -> tuple[float, Tensor | None, Place] | None:
    """Which entry of an operand a derivative is, if only one has that value.

    To ask the gates again would take several walks over all of their operands.
    """
    if like is None:
        return None
    scale, operand = like
    matches = np.argwhere(scale * operand.data == slope)
    if len(matches) != 1:
        return None
    return scale, operand, tuple(map(int, matches[0]))


def _agree(a: float, b: float) -> bool:
    """Whether two ways to a derivative came to the same, in float32 if need be."""
    return bool(np.isclose(a, b, rtol=1e-5, atol=0, equal_nan=True))


def _gates(span: Span, t: Tensor, station: Tensor) -> list[Tensor]:
    """The gates from t up to a station, in the order of their making."""
    begin, end = (
        next(i for i, n in enumerate(span.between) if n is x) for x in (t, station)
    )
    stretch = span.between[begin + 1 : end + 1]
    inside = {id(t)}
    for n in stretch:
        is_open = n is station or id(n) not in span.stations
        if is_open and any(id(x) in inside for x in n.inputs):
            inside.add(id(n))
    needed, found = {id(station)}, []
    for n in reversed(stretch):
        if id(n) in needed and id(n) in inside:
            found.append(n)
            needed |= {id(x) for x in n.inputs}
    return found[::-1]


def _of_one_element(
    span: Span, t: Tensor, place: Place, station: Tensor, at: Place
) -> Factor | None:
    """The factor by the graph of that one element, where all gates are elementwise."""
    element = _Element(span)
    root = element.of(station, at)
    leaf = element.made.get((id(t), place))
    if leaf is None or root.op is None:
        return None
    order = topological_order([root])
    depends = {id(leaf)}
    for n in order:
        if any(id(x) in depends for x in n.inputs):
            depends.add(id(n))
    between = [n for n in order if id(n) in depends]
    ends = frozenset((id(root), id(leaf)))
    paths = Paths(Span(root, leaf, between, ends, element.names)).first(1)
    return paths[0].factors[0] if paths else None


class _Element:
    """The graph of one entry: elementwise gates, down to the entries of stations."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self.made: dict[tuple[int, Place], Tensor] = {}
        self.names: dict[int, str] = {}
        self.mixes = False
        """Whether a gate was met that makes an entry of many others."""

    def of(self, t: Tensor, place: Place, depth: int = 0) -> Tensor:
        """One entry as a tensor of its own, with its history."""
        key = (id(t), place)
        if key not in self.made:
            self.made[key] = self._made(t, place, depth)
            if id(t) in self.span.names:
                name = entry_name(self.span.names[id(t)], place)
                self.names[id(self.made[key])] = name
        return self.made[key]

    def _made(self, t: Tensor, place: Place, depth: int) -> Tensor:
        if t.op is None or (depth and id(t) in self.span.names):
            return Tensor(t.data[place])
        if depth and _only_moves(t):
            (x,) = t.inputs
            return self.of(x, _source(t, x, place), depth + 1)
        if not isinstance(t.op, ElementwiseOp) or depth > _MAX_INSIDE:
            self.mixes = True
            return Tensor(t.data[place])
        inputs = tuple(self.of(x, _behind(x, place), depth + 1) for x in t.inputs)
        with tracing():
            return record(t.op, inputs, t.data[place])


def _behind(x: Tensor, place: Place) -> Place:
    """The entry of an operand that an entry of the result reads, by broadcasting."""
    own = place[len(place) - x.ndim :]
    return tuple(0 if n == 1 else i for i, n in zip(own, x.shape, strict=True))


def _only_moves(t: Tensor) -> bool:
    """Whether a gate puts every entry of its operand somewhere, and adds nothing."""
    is_passing = t.op is not None and t.op.pattern.startswith("passes")
    return is_passing and len(t.inputs) == 1 and t.inputs[0].size == t.size


def _source(t: Tensor, x: Tensor, place: Place) -> Place:
    """Which entry of x an entry of t is, where t only moves entries."""
    assert t.op is not None
    positions = np.arange(x.size).reshape(x.shape)
    flat = int(np.asarray(t.op.compute(positions))[place])
    return tuple(map(int, np.unravel_index(flat, x.shape)))


def _entry(span: Span, t: Tensor | None, place: Place) -> str:
    """The name of an entry, through gates that only move it; empty without one."""
    if t is None:
        return ""
    while id(t) not in span.names and _only_moves(t):
        (x,) = t.inputs
        t, place = x, _source(t, x, place)
    return entry_name(span.names[id(t)], place) if id(t) in span.names else ""


def _scaled(scale: float, name: str) -> tuple[str, str]:
    """A number times an entry, as text and as LaTeX."""
    text, latex = pretty_name(name), latex_name(name)
    if abs(scale) == 1:
        sign = "-" if scale < 0 else ""
        return sign + text, sign + latex
    return f"{number(scale)}·{text}", rf"{number(scale)} \cdot {latex}"


def _picked(text: str, place: Place, latex: bool, is_closed: bool) -> str:
    """An entry of a formula that stands for an array."""
    if not place:
        return text
    if not is_closed:
        text = rf"\left({text}\right)" if latex else f"({text})"
    return f"{text}[{','.join(map(str, place))}]"
