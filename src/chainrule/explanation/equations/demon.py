"""The lectures' demon: a little change of one unit, and what the loss makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from chainrule.explanation.equations.arrays import raised

__all__ = ["Demon", "DemonTable"]


class Demon(NamedTuple):
    """One change of one unit: what δ foretells, and what the loss did."""

    layer: int
    unit: int
    delta: float
    change: float
    measured: float

    @property
    def foretold(self) -> float:
        return self.delta * self.change


@dataclass(frozen=True)
class DemonTable:
    """Changes Δz of single units beside what they did to the loss; prints as a table.

    Source: aarhus, "the demon in our neural net"; Nielsen, "Neural networks and deep
    learning", 2015, chapter 2.
    """

    rows: tuple[Demon, ...]

    def __str__(self) -> str:
        lines = [
            f"{'unit':>8}  {'Δz':>8}  {'δ':>11}  {'δ·Δz':>11}  {'measured':>11}  "
            f"{'off by':>8}"
        ]
        for row in self.rows:
            off = abs(row.measured - row.foretold)
            lines.append(
                f"{f'z{raised(row.layer)}[{row.unit}]':>8}  {row.change:>8g}  "
                f"{row.delta:>11.4e}  {row.foretold:>11.4e}  {row.measured:>11.4e}  "
                f"{off:>8.0e}"
            )
        return "\n".join([*lines, "what δ misses falls with the square of Δz"])
