"""The numbers behind an entry's derivative: what reads it, how, and what comes back.

∂y/∂x[e] = Σ over the entries k of the next stations s of ∂s[k]/∂x[e] · ∂y/∂s[k]. One
reverse walk gives every ∂y/∂s; how s moves with x[e] alone gives the local derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.spec import is_float
from chainrule.explanation.gates import Place, pull, push, unit
from chainrule.explanation.span import Span
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["Sum", "Sums", "Term"]

Array = np.ndarray[Any, Any]
Columns = list[tuple[Tensor, Array]]


@dataclass(frozen=True)
class Term:
    """One entry of a station that reads the entry in question, and how."""

    station: Tensor
    place: Place
    slope: float
    """∂station[place]/∂entry."""
    product: float
    """That times ∂y/∂station[place]."""


@dataclass(frozen=True)
class Sum:
    """All that reads one entry: the largest terms, the number of all, the others' sum.

    ``blocked_by`` is the first gate that lets nothing through, where there is no term.
    """

    terms: list[Term]
    count: int
    rest: float
    blocked_by: Tensor | None


class Sums:
    """What y[place] is to a span's entries, computed once and asked for often."""

    def __init__(self, span: Span, place: Place, max_terms: int) -> None:
        self.span = span
        self.place = place
        self.max_terms = max_terms
        self._start = {id(t): i for i, t in enumerate(span.between)}
        self._gradients = self._walk_back()
        self._found: dict[tuple[int, Place], Sum] = {}

    def gradient(self, t: Tensor) -> Array:
        """∂y/∂t, zeros where no gradient arrives."""
        found = self._gradients.get(id(t))
        return np.zeros(t.shape) if found is None else found.data

    def largest(self, t: Tensor) -> Place:
        """Where |∂y/∂t| is largest, or the first that is not a number."""
        flat = int(np.argmax(np.abs(self.gradient(t))))
        return tuple(map(int, np.unravel_index(flat, t.shape)))

    def of(self, t: Tensor, place: Place) -> Sum:
        """The terms that ∂y/∂t[place] is the sum of."""
        key = (id(t), place)
        if key not in self._found:
            columns, blocked = self._columns(t, place)
            self._found[key] = (
                self._summed(columns, t, place) if columns else Sum([], 0, 0.0, blocked)
            )
        return self._found[key]

    def _walk_back(self) -> dict[int, Tensor]:
        """∂y[place]/∂t for every tensor between, by id."""
        between = {id(t) for t in self.span.between if is_float(t.dtype)}
        y = self.span.y
        found = {id(y): as_tensor(unit(y, self.place))}
        with no_grad():
            for t in reversed(self.span.between):
                if t.op is None or id(t) not in found or t is self.span.wrt:
                    continue
                for position, dx in pull(t, found[id(t)], between):
                    key = id(t.inputs[position])
                    found[key] = found[key] + dx if key in found else dx
        return found

    def _columns(self, t: Tensor, place: Place) -> tuple[Columns, Tensor | None]:
        """How the next stations move with one entry; else the gate that stops it."""
        moves = {id(t): unit(t, place)}
        found: Columns = []
        shut: Columns = []
        blocked: Tensor | None = None
        for n in self.span.between[self._start[id(t)] + 1 :]:
            known = {id(x): moves[id(x)] for x in n.inputs if id(x) in moves}
            if not known:
                continue
            moved = push(n, known) if is_float(n.dtype) else np.zeros(n.shape)
            if not moved.any() and blocked is None:
                blocked = n
            moved = self._that_count(n, moved)
            if not moved.any():
                is_direct = id(n) in self.span.stations and id(t) in known
                if is_direct and isinstance(n.op, ElementwiseOp):
                    shut.append((n, moved))
            elif id(n) in self.span.stations:
                found.append((n, moved))
            else:
                moves[id(n)] = moved
        return found or shut, blocked

    def _that_count(self, s: Tensor, moved: Array) -> Array:
        """Of y only the entry that is explained, of others all."""
        if s is not self.span.y:
            return moved
        return np.where(unit(s, self.place) != 0, moved, 0)

    def _readers(self, s: Tensor, t: Tensor, place: Place) -> Array:
        """Which entries of an elementwise gate read one entry of an operand."""
        reads = np.broadcast_to(unit(t, place), s.shape)
        return self._that_count(s, reads) != 0

    def _summed(self, columns: Columns, t: Tensor, place: Place) -> Sum:
        read = [np.flatnonzero(moved) for _, moved in columns]
        if not any(map(len, read)):  # elementwise gates that are shut
            read = [np.flatnonzero(self._readers(s, t, place)) for s, _ in columns]
        which = np.repeat(np.arange(len(columns)), [len(flat) for flat in read])
        flat = np.concatenate(read)
        pairs = list(zip(columns, read, strict=True))
        slopes = np.concatenate([c.reshape(-1)[at] for (_, c), at in pairs])
        above = [self.gradient(s).reshape(-1)[at] for (s, _), at in pairs]
        products = slopes.astype(float) * np.concatenate(above).astype(float)
        # Terms of 0 do not count, unless there are no others.
        chosen = np.flatnonzero(products) if products.any() else np.arange(len(flat))
        size = np.abs(products[chosen])
        size[np.isnan(size)] = np.inf
        order = chosen[np.lexsort((-np.abs(slopes[chosen]), -size))]
        terms = []
        for i in order[: self.max_terms]:
            station = columns[which[i]][0]
            at = tuple(map(int, np.unravel_index(flat[i], station.shape)))
            terms.append(Term(station, at, float(slopes[i]), float(products[i])))
        rest = float(np.sum(products[order[self.max_terms :]]))
        return Sum(terms, len(order), rest, None)
