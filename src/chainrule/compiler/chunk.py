"""What all contraction kernels do: walk over a chunk's tiles, hand out their sums.

A tile of T is summed in registers, put down in a small scratch, and handed vector by
vector to the caller's epilogue, which is therefore emitted once, whatever the tile's
height is. The scratch also lets the last tile of rows begin earlier than the rows still
missing: what it computes twice is simply not handed out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.compiler.emit import Function, Value, i64, vector
from chainrule.compiler.tiling import Operands, Plan, Size

__all__ = [
    "Chunk",
    "Columns",
    "Epilogue",
    "blocks_of",
    "divide",
    "least",
    "minus",
    "shares",
    "times",
    "value_of",
]

Epilogue = Callable[[Function, Value, Value, Value, Value | None, Any], None]
Columns = Callable[[Function, Value, Value | None], Any]


class Chunk(ABC):
    """The tiles of one chunk."""

    def __init__(
        self,
        f: Function,
        plan: Plan,
        operands: Operands,
        depth: Size,
        epilogue: Epilogue,
        columns: Columns | None,
    ) -> None:
        self.f = f
        self.plan = plan
        self.at = operands
        self.depth = depth if operands.depth is None else operands.depth
        self.epilogue = epilogue
        self.columns = columns
        self.type = vector(plan.element, plan.lanes)
        self.tile_size = plan.heights[0] * plan.tile_columns
        # Variables: LLVM makes registers of them.
        self.tile = f.at_entry("ptr", "alloca ptr")
        self.row = f.at_entry("ptr", "alloca i64")
        self.start = f.at_entry("ptr", "alloca i64")

    def emit(self, first: Value, last: Value, left: Value, right: Value) -> None:
        """All tiles of rows ``first`` to ``last`` and columns ``left`` to ``right``."""
        self.last_row, self.last_column = last, right
        self._strips(first, left, right)

    @abstractmethod
    def strip(
        self, first: Value, q: Value, masks: Sequence[Value | None], count: Size
    ) -> None:
        """All rows of the chunk, for the ``count`` columns from q on."""

    def _strips(self, first: Value, left: Value, right: Value) -> None:
        f, plan = self.f, self.plan
        tile, lanes = plan.tile_columns, plan.lanes
        whole: list[Value | None] = [None] * plan.width
        if plan.columns is None:
            rest = f.binary("urem", f.binary("sub", right, left), i64(tile))
            middle = f.binary("sub", right, rest)
        else:
            middle = least(f, right, plan.columns - plan.columns % tile)
        if plan.columns is None or plan.columns >= tile:
            with f.loop(left, middle, tile) as loop:
                self.strip(first, loop.index, whole, tile)
        if plan.columns is None or plan.columns % tile:
            with f.when(f.compare("icmp slt", middle, right)):
                count: Size = f.binary("sub", right, middle)
                if plan.columns is not None:
                    count = plan.columns % tile
                needed = -(-count // lanes) if isinstance(count, int) else plan.width
                masks = [self.mask(count, j * lanes) for j in range(needed)]
                self.strip(first, middle, masks, count)

    def mask(self, count: Size, offset: int) -> Value | None:
        """Which lanes of the vector at this offset are among ``count`` columns."""
        left = minus(self.f, count, offset)
        if isinstance(left, int) and left >= self.plan.lanes:
            return None
        return self.f.first_lanes(left, self.plan.lanes)

    def rows(
        self,
        first: Value,
        q: Value,
        masks: Sequence[Value | None],
        count: Size,
        sums: Value,
        emit_tile: Callable[[Value, Value, int], Value],
        is_last: Value | None = None,
    ) -> None:
        """All tiles of a strip; results are handed out if nothing says that more come.

        ``emit_tile(tile, p, height)`` adds up a tile for the rows from p on, or from
        some rows above, and says from which.
        """
        f = self.f
        name = f.fresh("strip")
        f.store(first, self.row)
        f.store(sums, self.tile)
        f.jump(name)
        f.label(name)
        p = f.load(self.row, "i64")
        tile = f.load(self.tile, "ptr")
        f.branch(f.compare("icmp slt", p, self.last_row), f"{name}.rows", f"{name}.end")
        f.label(f"{name}.rows")
        heights = self.plan.heights
        left = f.binary("sub", self.last_row, p)
        for height, lower in zip(heights, (*heights[1:], 0), strict=True):
            if lower:
                # This height is for more rows than the lower one has. It may begin
                # above them, and compute those again, but not above row 0.
                some = f.compare("icmp sgt", left, i64(lower))
                fits = f.compare("icmp sge", self.last_row, i64(height))
                usable = f.binary("and", some, fits)
                f.branch(usable, f"{name}.{height}", f"{name}.below{height}")
                f.label(f"{name}.{height}")
            start = emit_tile(tile, p, height)
            f.store(start, self.start)
            f.store(
                least(f, f.binary("add", start, i64(height)), self.last_row), self.row
            )
            f.jump(f"{name}.done")
            if lower:
                f.label(f"{name}.below{height}")
        f.label(f"{name}.done")
        if is_last is None:
            self.hand_out(tile, p, q, masks, count)
        else:
            f.store(f.at(tile, self.tile_size, self.plan.element), self.tile)
            with f.when(is_last):
                self.hand_out(tile, p, q, masks, count)
        f.jump(name)
        f.label(f"{name}.end")

    def hand_out(
        self,
        tile: Value,
        p: Value,
        q: Value,
        masks: Sequence[Value | None],
        count: Size,
    ) -> None:
        """The rows of a tile from p on go to the epilogue."""
        f, lanes = self.f, self.plan.lanes
        if self.plan.transposed:
            self._hand_out_columns(tile, q, count)
            return
        start = f.load(self.start, "i64")
        after = f.load(self.row, "i64")
        with f.loop(0, count, lanes) as strip:
            column = f.binary("add", q, strip.index)
            mask = None
            if any(masks):
                mask = f.first_lanes(minus(f, count, strip.index), lanes)
            extra = self.columns(f, column, mask) if self.columns else None
            with f.loop(p, after) as rows:
                row = f.binary("sub", rows.index, start)
                place = f.binary("mul", row, i64(self.plan.tile_columns))
                place = f.binary("add", place, strip.index)
                sums = f.load(f.at(tile, place, self.plan.element), self.type)
                self.epilogue(f, sums, rows.index, column, mask, extra)

    def _hand_out_columns(self, tile: Value, q: Value, count: Size) -> None:
        """The columns of a tile that has all rows go to the epilogue."""
        f, plan = self.f, self.plan
        assert plan.rows is not None
        mask = f.first_lanes(plan.rows, plan.lanes)
        far = ", ".join(f"i64 {i * plan.tile_columns}" for i in range(plan.lanes))
        offsets = Value(vector("i64", plan.lanes), f"<{far}>")
        with f.loop(0, count) as strip:
            first = f.at(tile, strip.index, plan.element)
            places = f.value(
                vector("ptr", plan.lanes),
                f"getelementptr {plan.element}, {first}, {offsets}",
            )
            sums = f.gather(places, mask, self.type)
            column = f.binary("add", q, strip.index)
            self.epilogue(f, sums, i64(0), column, mask, None)

    def clear(self, sums: Value, size: int) -> None:
        f = self.f
        with f.loop(0, size, self.plan.lanes) as loop:
            zero = Value(self.type, "zeroinitializer")
            f.store(zero, f.at(sums, loop.index, self.plan.element))

    def memory(self, count: int) -> Value:
        """Memory of the kernel's own for so many elements."""
        type = f"[{count} x {self.plan.element}]"
        return self.f.at_entry("ptr", f"alloca {type}, align 64")

    def load(self, pointer: Value, mask: Value | None) -> Value:
        if mask is None:
            return self.f.load(pointer, self.type)
        return self.f.masked_load(pointer, mask, self.type)


def value_of(x: Size) -> Value:
    """A count as a native number."""
    return i64(x) if isinstance(x, int) else x


def times(f: Function, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    return f.binary("mul", value_of(x), value_of(y))


def minus(f: Function, x: Size, y: Size) -> Size:
    if isinstance(x, int) and isinstance(y, int):
        return x - y
    return f.binary("sub", value_of(x), value_of(y))


def least(f: Function, x: Value, y: Size) -> Value:
    return f.call("llvm.smin.i64", "i64", x, value_of(y))


def blocks_of(f: Function, extent: Size, each: int) -> Size:
    """How many blocks of ``each`` cover an extent."""
    if isinstance(extent, int):
        return -(-extent // each)
    return f.binary("udiv", f.binary("add", extent, i64(each - 1)), i64(each))


def shares(f: Function, count: Size, unit: int, parts: int) -> tuple[Size, Size]:
    """A count of units cut into at most so many parts: how large, and how many."""
    if isinstance(count, int):
        each = -(-count // (unit * parts)) * unit
        return each, -(-count // each)
    units = f.binary("udiv", f.binary("add", count, i64(unit * parts - 1)),
                     i64(unit * parts))  # fmt: skip
    size = f.binary("mul", units, i64(unit))
    more = f.binary("add", count, f.binary("sub", size, i64(1)))
    return size, f.binary("udiv", more, size)


def divide(f: Function, x: Value, by: Size) -> tuple[Value, Value]:
    """Quotient and remainder."""
    return f.binary("udiv", x, value_of(by)), f.binary("urem", x, value_of(by))
