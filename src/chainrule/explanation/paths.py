"""Derivatives of single numbers: every path, and each factor's formula."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from chainrule.core import scalar
from chainrule.core.gate import Gate
from chainrule.core.graph import Tensor, no_grad
from chainrule.core.scalar import Expr
from chainrule.core.trace import tracing
from chainrule.errors import GradientError
from chainrule.explanation.derivation import Factor, Path, Step
from chainrule.explanation.gates import operand_entry, pull, remark, verb
from chainrule.explanation.notation import number
from chainrule.explanation.reading import expression, whole, written
from chainrule.explanation.span import Span
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["Paths"]

Slope = tuple[Tensor, float, Expr, Expr]
"""An operand, and ∂gate/∂operand: the number, the formula, the formula in LaTeX."""

Readings = tuple[float, Expr, Expr]


def _added(a: Readings, b: Readings) -> Readings:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


class Paths:
    """All paths of a span of single numbers: how many there are, what they sum to."""

    def __init__(self, span: Span) -> None:
        self.span = span
        self._ids = {id(t) for t in span.between}
        # From the far end: how many paths lead to wrt, and what they sum to.
        start = id(span.wrt)
        self.counts: dict[int, int] = defaultdict(int, {start: 1})
        self.totals: dict[int, float] = defaultdict(float, {start: 1.0})
        self._steps: dict[int, list[tuple[Tensor, Factor]]] = {}
        uses: dict[int, int] = defaultdict(int)
        for t in span.between:
            if id(t) in span.stations and t is not span.wrt:
                self._steps[id(t)] = self._factors(t)
                for nearer, factor in self._steps[id(t)]:
                    uses[id(nearer)] += 1
                    self.counts[id(t)] += self.counts[id(nearer)]
                    self.totals[id(t)] += factor.value * self.totals[id(nearer)]
        # By the last gate alone, where what it reads reaches y by others too.
        last = self._steps.get(id(span.y), [])
        self._steps[id(span.y)] = [
            (s, replace(factor, is_direct=uses[id(s)] > 1)) for s, factor in last
        ]

    def forward(self) -> Iterator[Step]:
        """The stations' values, each in terms of those before it."""
        names = self.span.names
        for t in self.span.between:
            if id(t) in self.span.stations and t.op is not None:
                text, latex = (
                    whole(
                        expression(t, names, latex=is_latex, inside=True),
                        t,
                        latex=is_latex,
                    )
                    for is_latex in (False, True)
                )
                yield Step(names[id(t)], text, float(t.item()), latex)

    def first(self, limit: int) -> list[Path]:
        """The first paths, each from wrt up to y as the lectures write products."""
        found: list[Path] = []
        stack: list[tuple[Tensor, tuple[Factor, ...]]] = [(self.span.y, ())]
        while stack and len(found) < limit:
            t, factors = stack.pop()
            if t is self.span.wrt:
                found.append(Path(factors))
                continue
            for nearer, factor in reversed(self._steps.get(id(t), [])):
                if self.counts[id(nearer)]:
                    stack.append((nearer, (factor, *factors)))
        return found

    def _factors(self, station: Tensor) -> list[tuple[Tensor, Factor]]:
        """∂station/∂s for the nearest stations s below, summed over what is between."""
        one = scalar.constant(1.0)
        sums: dict[int, Readings] = {id(station): (1.0, one, one)}
        gates: dict[int, dict[int, tuple[Tensor, str]]] = defaultdict(dict)
        reached: list[Tensor] = []
        for t in reversed(self.span.between):
            if id(t) not in sums:
                continue
            if id(t) in self.span.stations and t is not station:
                reached.append(t)
                continue
            value, text, latex = sums[id(t)]
            for nearer, number_, text_, latex_ in self._local(t):
                key = id(nearer)
                old = sums.get(key)
                new = (value * number_, text * text_, latex * latex_)
                sums[key] = new if old is None else _added(old, new)
                assert t.op is not None
                note = remark(t.op.name, number_)
                gates[key] |= gates[id(t)] | {id(t): (t, note)}
        return [
            (s, self._factor(station, s, *sums[id(s)], list(gates[id(s)].values())))
            for s in reversed(reached)
        ]

    def _factor(
        self,
        station: Tensor,
        by: Tensor,
        value: float,
        text: Expr,
        latex: Expr,
        gates: list[tuple[Tensor, str]],
    ) -> Factor:
        gate, note = "", ""
        if len(gates) == 1:
            ((t, note),) = gates
            gate = verb(t)
        elif any(n for _, n in gates) and (value == 0 or value != value):
            # The one to blame is the nearest to what is differentiated by.
            t, note = next((t, n) for t, n in reversed(gates) if n)
            note = f"{verb(t)}; {note}"
        elif value == 0:
            note = remark("", 0.0)
        names = self.span.names
        return Factor(
            of=names[id(station)],
            by=names[id(by)],
            formula=written(text) or number(value),
            value=value,
            gate=gate,
            note=note,
            latex_formula=written(latex, latex=True) or number(value),
        )

    def _local(self, t: Tensor) -> list[Slope]:
        """∂t/∂operand of the operands that count."""
        if t.op is None:
            return []
        dy = Tensor(np.ones(t.shape, t.dtype))
        known = {id(dy): scalar.constant(1.0)}
        try:
            with tracing():
                slopes = list(pull(t, dy, self._ids))
        except GradientError:
            # A gate written in NumPy tells its numbers, but no formula.
            with no_grad():
                slopes = list(pull(t, dy, self._ids))
        return [
            (t.inputs[i], float(slope.item()), *self._formulas(t, i, slope, known))
            for i, slope in slopes
        ]

    def _formulas(
        self, t: Tensor, position: int, slope: Tensor, known: dict[int, Expr]
    ) -> tuple[Expr, Expr]:
        """A local derivative in terms of named values, as text and as LaTeX."""
        x, names = t.inputs[position], self.span.names
        if isinstance(t.op, (ElementwiseOp, Gate)):
            return (
                expression(slope, names, known),
                expression(slope, names, known, latex=True),
            )
        # A rule that mixes entries is no formula of single numbers.
        found = operand_entry([t], (0,) * t.ndim, x, (0,) * x.ndim)
        scale, operand, _ = found or (float(slope.item()), None, ())
        if operand is None or operand.size > 1:
            return (scalar.constant(slope.item()),) * 2
        return (
            scale * expression(operand, names),
            scale * expression(operand, names, latex=True),
        )
