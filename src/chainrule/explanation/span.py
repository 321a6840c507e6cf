"""The part of a graph between a value and what it is differentiated by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from chainrule.core.backward import topological_order
from chainrule.core.graph import Tensor

__all__ = ["Span"]


@dataclass(frozen=True)
class Span:
    """Everything on a way from ``wrt`` up to ``y``, and where the ways stop over.

    Attributes:
        y: the value.
        wrt: what it is differentiated by.
        between: the tensors on the ways, both ends included, in the order of their
            making; empty if there is no way.
        stations: the ids of those at which factors begin and end: named tensors, or
            where none has a name all but arrays in which entries were only moved.
        names: of the stations and of all else that formulas mention, by id.
    """

    y: Tensor
    wrt: Tensor
    between: list[Tensor]
    stations: frozenset[int]
    names: Mapping[int, str]

    @classmethod
    def of(
        cls, y: Tensor, wrt: Tensor, given: Mapping[str, Tensor] | None = None
    ) -> Span:
        """The span, with a name for every station and every array, none twice."""
        order = topological_order([y])
        own = {id(t): t.name for t in [*order, wrt] if t.name}
        own |= {id(t): name for name, t in (given or {}).items()}
        depends = {id(wrt)}
        for t in order:
            if t is not wrt and any(id(i) in depends for i in t.inputs):
                depends.add(id(t))
        between = [t for t in order if id(t) in depends]
        inner = [t for t in between if t is not y and t is not wrt]
        chosen = [t for t in inner if id(t) in own]
        chosen = chosen or [t for t in inner if t.size == 1 or not _is_moved(t)]
        stations = frozenset(map(id, [wrt, *chosen, y]))
        for t, usual in ((y, "y"), (wrt, "x")):
            if usual not in own.values():
                own.setdefault(id(t), usual)
        return cls(y, wrt, between, stations, _names([wrt, *order], stations, own))

    @property
    def is_joined(self) -> bool:
        """Whether y depends on wrt."""
        return any(t is self.y for t in self.between)


def _is_moved(t: Tensor) -> bool:
    return t.op is not None and t.op.pattern.startswith("passes")


def _names(
    order: list[Tensor], stations: frozenset[int], own: Mapping[int, str]
) -> dict[int, str]:
    """A name for each station and each array that was given, in the order of use."""
    made = [t for t in order if t.op is not None]
    used = [x for t in made for x in t.inputs if x.op is None]
    names: dict[int, str] = {}
    taken: set[str] = set()
    reserved = set(own.values())
    counts = {"v": itertools.count(1), "c": itertools.count(1)}
    for t in [*used, *order]:
        if id(t) in names:
            continue
        if id(t) in own:
            candidates = _copies(own[id(t)])
        elif id(t) in stations or (t.op is None and t.size > 1):
            letter = "v" if t.op else "c"
            fresh = (f"{letter}{i}" for i in counts[letter])
            candidates = (name for name in fresh if name not in reserved)
        else:
            continue
        names[id(t)] = next(name for name in candidates if name not in taken)
        taken.add(names[id(t)])
    return names


def _copies(name: str) -> Iterator[str]:
    """The name, and what a second and third tensor of that name are called."""
    yield name
    yield from (f"{name}'{copy}" for copy in itertools.count(2))
