"""Winograd's transforms as native code, and the walk over tiles that need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from chainrule.compiler.convolution import Writer
from chainrule.compiler.emit import Function, Value, i64, number
from chainrule.compiler.winograd import Matrix

__all__ = ["Square", "Tiles", "even_height", "transform"]

Square = list[list[Value]]


def transform(f: Function, matrix: Matrix, x: Sequence[Sequence[Value]]) -> Square:
    """matrix · x · matrixᵀ, of a square of vectors."""
    columns = [_along(f, matrix, column) for column in zip(*x, strict=True)]
    return [_along(f, matrix, row) for row in zip(*columns, strict=True)]


def _along(f: Function, matrix: Matrix, x: Sequence[Value]) -> list[Value]:
    """matrix · x, with what pairs of points have in common computed once."""
    how, values = _shared(matrix), list(x)
    for i, k in how.columns:
        values[i], values[k] = (
            f.binary("fadd", values[i], values[k]),
            f.binary("fsub", values[i], values[k]),
        )
    found: dict[int, Value] = {}
    for (i, k), (equal, opposite) in how.pairs.items():
        a, b = _sum(f, equal, values), _sum(f, opposite, values)
        found[i], found[k] = f.binary("fadd", a, b), f.binary("fsub", a, b)
    found |= {i: _sum(f, row, values) for i, row in how.singles.items()}
    return [found[i] for i in range(len(found))]


@dataclass(frozen=True)
class _Shared:
    """A product with a matrix in fewer steps.

    Points come as pairs p and -p, whose columns (or rows) are each other's but for the
    signs of every second number.

    Args:
        columns: which numbers are first replaced by their sum and their difference.
        pairs: of rows, with what is equal in both, and what is opposite.
        singles: the other rows.
    """

    columns: list[tuple[int, int]]
    pairs: dict[tuple[int, int], tuple[list[float], list[float]]]
    singles: dict[int, list[float]]


@cache
def _shared(matrix: Matrix) -> _Shared:
    columns = [list(c) for c in zip(*matrix, strict=True)]
    joined = _pairs(columns)
    for i, k in joined:
        columns[i], columns[k] = _split(columns[i], columns[k])
    rows = [list(r) for r in zip(*columns, strict=True)]
    pairs = {(i, k): _split(rows[i], rows[k]) for i, k in _pairs(rows)}
    paired = {i for pair in pairs for i in pair}
    singles = {i: row for i, row in enumerate(rows) if i not in paired}
    return _Shared(joined, pairs, singles)


def _pairs(rows: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Which are equal but for some of the signs; none is in two pairs."""
    found: list[tuple[int, int]] = []
    for i, row in enumerate(rows):
        for k in range(i + 1, len(rows)):
            both = list(zip(row, rows[k], strict=True))
            is_alike = all(abs(a) == abs(b) for a, b in both)
            signs = {a == b for a, b in both if a}
            is_new = not any({i, k} & set(pair) for pair in found)
            if is_alike and len(signs) == 2 and is_new:
                found.append((i, k))
    return found


def _split(
    row: Sequence[float], other: Sequence[float]
) -> tuple[list[float], list[float]]:
    """What of a row is equal in the other, and what has the other sign there."""
    both = list(zip(row, other, strict=True))
    return [a if a == b else 0.0 for a, b in both], [
        a if a != b else 0.0 for a, b in both
    ]


def _sum(f: Function, row: Sequence[float], x: Sequence[Value]) -> Value:
    """Σ row[j]·x[j]; it begins with what needs no product."""
    terms = [(c, v) for c, v in zip(row, x, strict=True) if c]
    (c, total), *rest = sorted(terms, key=lambda term: term[0] != 1)
    if c != 1:
        total = f.binary("fmul", total, number(total.type, c))
    for c, v in rest:
        if abs(c) == 1:
            total = f.binary("fadd" if c == 1 else "fsub", total, v)
        else:
            total = f.fma(v, number(v.type, c), total)
    return total


def even_height(rows: int, most: int) -> int:
    """The height of register tiles that cover so many rows at the least cost."""
    heights = range(1, min(rows, most) + 1)
    return min(heights, key=lambda h: -(-rows // h) * (h + 1.5))


class Tiles:
    """The squares of m × m places that cover an image of them.

    Those at the far edges begin earlier, so that they end where the image does. What
    the tiles before have had is then left out.
    """

    def __init__(self, size: tuple[int, int], m: int) -> None:
        self.size, self.m = size, m
        self.down, self.across = (-(-s // m) for s in size)

    @property
    def per_image(self) -> int:
        """How many there are."""
        return self.down * self.across

    def split(self, w: Writer, index: Value) -> tuple[Value, Value, Value]:
        """The image, the row and the column of a tile, by its number."""
        f = w.f
        row = f.binary("udiv", index, i64(self.across))
        column = f.binary("urem", index, i64(self.across))
        image = f.binary("udiv", row, i64(self.down))
        return image, f.binary("urem", row, i64(self.down)), column

    def place(self, w: Writer, row: Value, column: Value) -> list[tuple[Value, Value]]:
        """Along both axes, where a tile begins and its first place that is new."""
        found = []
        for i, size in zip((row, column), self.size, strict=True):
            new = begin = w.f.binary("mul", i, i64(self.m))
            if size % self.m:
                begin = w.e.least(new, i64(size - self.m))
            found.append((begin, new))
        return found
