"""Derivatives where arrays lie on the way: for one entry, step after step upwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from chainrule.core.graph import Tensor
from chainrule.explanation.derivation import Explanation, Factor, Path, Step
from chainrule.explanation.elements import Seen, factor, step
from chainrule.explanation.gates import Place
from chainrule.explanation.notation import entry_name, number, pretty_name
from chainrule.explanation.span import Span
from chainrule.explanation.sums import Sum, Sums, Term

__all__ = ["derivative_of_entry"]

_MAX_CHAIN = 6  # factors in one product, before a new line is begun

_MAX_READ = 20  # terms of one sum whose gates are read for a formula, which takes time

Station = tuple[Tensor, Place]


def derivative_of_entry(sums: Sums, place: Place, max_depth: int) -> Explanation:
    """∂y/∂wrt[place], and the gradients further up, at most ``max_depth`` of them."""
    blocks: list[Explanation] = []
    at: Station | None = (sums.span.wrt, place)
    while at is not None and len(blocks) < max_depth:
        block, at = _block(sums, *at)
        blocks.append(block)
    found = blocks.pop()
    for block in reversed(blocks):
        found = replace(block, deeper=found)
    return replace(found, hints=tuple(_hints(sums, found, at, max_depth)))


def _hints(
    sums: Sums, found: Explanation, above: Station | None, max_depth: int
) -> Iterator[str]:
    """How to see more."""
    wrt = sums.span.wrt
    most = max(block.num_paths for block in found.blocks)
    lines = []
    if wrt.size > 1:
        letters = ", ".join("ijklmn"[: wrt.ndim]) + "," * (wrt.ndim == 1)
        name = pretty_name(sums.span.names[id(wrt)])
        lines.append(f"entry=({letters}): another of the {wrt.size} entries of {name}")
    if most > sums.max_terms:
        lines.append(f"max_terms={most}: all terms of each sum")
    if above is not None:
        upper = f"∂{pretty_name(found.of)}/∂{pretty_name(_name(sums.span, *above))}"
        lines.append(f"max_depth={2 * max_depth}: what {upper} is made of")
    if lines:
        yield "more"
        yield from (f"  {line}" for line in lines)


def _block(sums: Sums, t: Tensor, place: Place) -> tuple[Explanation, Station | None]:
    """∂y/∂t[place] as a product or a sum, and what is to be explained next."""
    top = sums.of(t, place)
    rest, reason, paths = 0.0, "", []
    steps: list[Step] = []
    end: Station | None = None
    if not top.terms:
        reason = _reason(sums, top.blocked_by)
    elif top.count == 1:
        factors, steps, end = _chain(sums, t, place)
        paths = [Path((*factors, *_upper(sums, *end)))]
    else:
        rest = top.rest
        paths = _terms(sums, t, place, top)
        end = (top.terms[0].station, top.terms[0].place)
        steps = [step(sums.span, *end)]
    block = Explanation(
        of=_name(sums.span, sums.span.y, sums.place),
        wrt=_name(sums.span, t, place),
        forward=tuple(steps),
        paths=tuple(paths),
        num_paths=top.count,
        value=float(sums.gradient(t)[place]),
        rest=rest,
        reason=reason,
    )
    return block, None if end is None or end[0] is sums.span.y else end


def _chain(
    sums: Sums, t: Tensor, place: Place
) -> tuple[list[Factor], list[Step], Station]:
    """Factors as long as each entry is read by one other, and where they end."""
    factors: list[Factor] = []
    steps: list[Step] = []
    while t is not sums.span.y and len(factors) < _MAX_CHAIN:
        found = sums.of(t, place)
        if found.count != 1:
            break
        (term,) = found.terms
        factors.append(_factor(sums, t, place, term, {}))
        t, place = term.station, term.place
        steps.append(step(sums.span, t, place))
    return factors, steps, (t, place)


def _terms(sums: Sums, t: Tensor, place: Place, found: Sum) -> list[Path]:
    """The terms of a sum: a local derivative, and what arrives from further up."""
    seen: Seen = {}
    paths = []
    for rank, term in enumerate(found.terms):
        local = (
            _factor(sums, t, place, term, seen)
            if rank < _MAX_READ
            else _number(sums, t, place, term)
        )
        if term.station is sums.span.y:
            paths.append(Path((replace(local, is_direct=True),)))
        else:
            paths.append(Path((local, *_upper(sums, term.station, term.place))))
    return paths


def _factor(sums: Sums, t: Tensor, place: Place, term: Term, seen: Seen) -> Factor:
    return factor(sums.span, t, place, term.station, term.place, term.slope, seen)


def _number(sums: Sums, t: Tensor, place: Place, term: Term) -> Factor:
    """A local derivative of which nothing is said but its value."""
    of = _name(sums.span, term.station, term.place)
    by = _name(sums.span, t, place)
    return Factor(of, by, number(term.slope), term.slope, "")


def _upper(sums: Sums, t: Tensor, place: Place) -> list[Factor]:
    """What arrives at a station from further up, as a factor without formula."""
    if t is sums.span.y:
        return []
    value = float(sums.gradient(t)[place])
    of = _name(sums.span, sums.span.y, sums.place)
    return [Factor(of, _name(sums.span, t, place), "", value, "")]


def _reason(sums: Sums, gate: Tensor | None) -> str:
    """Why nothing comes back."""
    if gate is None or gate.op is None:
        y = pretty_name(_name(sums.span, sums.span.y, sums.place))
        return f"{y} is made of other entries"
    return f"nothing comes back through {gate.op.name} ({gate.op.pattern})"


def _name(span: Span, t: Tensor, place: Place) -> str:
    return entry_name(span.names[id(t)], place)
