"""Native code for the gradients of convolutions by their filters, with transforms.

∂L/∂F = Aᵀ [Σ over tiles (G·∂L/∂O·Gᵀ) ⊙ (Bᵀ·X·B)] A

The sums over tiles are matrix products, channels × filters at each point. A chunk has
those of some channels and filters in the second cache, where it adds up a part of all
tiles, some at a time.
"""

from __future__ import annotations

from chainrule.compiler.convolution import Writer, full_strides
from chainrule.compiler.emit import Value, i64
from chainrule.compiler.emitter import Chunks
from chainrule.compiler.ir import Convolution
from chainrule.compiler.tile import Term, Tile
from chainrule.compiler.transforms import Square, Tiles, even_height, transform
from chainrule.compiler.winograd import Winograd, apart

__all__ = ["WinogradFilters"]

_CHUNKS = 8
"""So many chunks at least are there to share, where filters can be divided."""

_SUMS_BYTES = 900 << 10
_TILES_BYTES = 300 << 10
"""Of what is added up, and of the tiles that are taken at a time."""

_FEWEST = 32
"""Filters, and channels, that stay together: each tile is transformed for all."""


class WinogradFilters:
    """Sums over a part of the tiles, of some channels and some filters."""

    def __init__(self, w: Writer, node: Convolution) -> None:
        self.w, self.f, self.e, self.node = w, w.f, w.e, node
        g = self.g = node.geometry
        self.by_x = full_strides(node.a.node, g.images)
        self.by_y = full_strides(node.b.node, g.outputs)
        self.form = Winograd(outputs=g.window.size[0], taps=node.tile)
        self.points = self.form.size**2
        self.tiles = Tiles(g.places, node.tile)
        self._divide()
        self.depth = -(-self.channels // w.lanes) * w.lanes
        self.span = -(-self.filters // w.lanes) * w.lanes
        bytes_each = 4 * self.points * (self.depth + self.span)
        self.each = max(4, _TILES_BYTES // bytes_each)
        self.width = min(2, self.span // w.lanes)
        self.height = even_height(self.channels, w.registers // self.width)
        self.x_apart = apart(self.each * self.depth)
        self.y_apart = apart(self.each * self.span)
        self.sums_apart = apart(self.depth * self.span)
        self.x = w.scratch(self.points * self.x_apart)
        self.y = w.scratch(self.points * self.y_apart)
        self.sums = w.scratch(self.points * self.sums_apart)
        self.zeros = w.scratch(w.lanes)

    def _divide(self) -> None:
        """Halve channels and filters until sums fit, and there are enough chunks."""
        g, most = self.g, _SUMS_BYTES // (4 * self.points)
        self.channels, self.filters = g.channels, g.filters
        while True:
            self.num_columns = -(-g.filters // self.filters)
            self.num_rows = -(-g.channels // self.channels)
            chunks = self.num_columns * self.num_rows * self.node.parts
            is_small = self.filters * self.channels <= most
            large = max(self.filters, self.channels)
            if (is_small and chunks >= _CHUNKS) or large <= _FEWEST:
                return
            half = -(-large // (2 * _FEWEST)) * _FEWEST
            if self.filters == large:
                self.filters = half
            else:
                self.channels = half

    def emit(self) -> Chunks:
        """The whole kernel."""
        w, f, e, g = self.w, self.f, self.e, self.g
        rest = f.binary("udiv", f.parameters[1], i64(self.num_columns))
        column = f.binary("urem", f.parameters[1], i64(self.num_columns))
        part = f.binary("udiv", rest, i64(self.num_rows))
        row = f.binary("urem", rest, i64(self.num_rows))
        # The last blocks begin earlier: what two chunks make is the same.
        channel = f.binary("mul", row, i64(self.channels))
        channel = e.least(channel, i64(g.channels - self.channels))
        filter = f.binary("mul", column, i64(self.filters))
        filter = e.least(filter, i64(g.filters - self.filters))
        total = f.binary("mul", e.size(g.batch), i64(self.tiles.per_image))
        each = f.binary("add", total, i64(self.node.parts - 1))
        each = f.binary("udiv", each, i64(self.node.parts))
        first = f.binary("mul", part, each)
        last = e.least(f.binary("add", first, each), total)
        zero = Value(w.type, "zeroinitializer")
        f.store(zero, self.zeros)
        with f.loop(0, self.points * self.sums_apart, w.lanes) as loop:
            f.store(zero, f.at(self.sums, loop.index, w.element))
        with f.loop(first, last, self.each) as block:
            many = e.least(f.binary("sub", last, block.index), i64(self.each))
            with f.loop(0, many) as loop:
                index = f.binary("add", block.index, loop.index)
                self._transform(index, loop.index, channel, filter)
            self._multiply(many)
        size = g.window.size[0] ** 2 * g.channels * g.filters
        out = w.move(e.pointer(self.node), (part, size), (channel, g.filters))
        self._return(w.move(out, (filter, 1)))
        return w.finish((self.num_columns, 1), (self.num_rows, 1), (self.node.parts, 1))

    def _transform(
        self, index: Value, number: Value, channel: Value, filter: Value
    ) -> None:
        """What a tile's pixels, and what reached its outputs, are at each point."""
        w, f, m, t = self.w, self.f, self.node.tile, self.form.size
        image, row, column = self.tiles.split(w, index)
        down, along = self.tiles.place(w, row, column)
        (y, _), (x, _) = down, along
        (top, _), (side, _) = self.g.window.padding
        by_image, by_row, by_column, _ = self.by_x
        pixels = w.move(
            w.origin(self.node.a), (image, by_image), (y, by_row), (x, by_column),
            (-top, by_row), (-side, by_column), (channel, 1),
        )  # fmt: skip
        to_x = w.move(self.x, (number, self.depth))

        def see(c: Value | int, mask: Value | None) -> None:
            found = w.load_square(w.move(pixels, (c, 1)), t, by_row, by_column, mask)
            found = transform(f, self.form.pixels, found)
            w.store_square(found, w.move(to_x, (c, 1)), self.x_apart)

        w.each_vector(self.channels, see)
        by_image, by_row_y, by_column_y, _ = self.by_y
        outputs = w.move(
            w.origin(self.node.b), (image, by_image), (y, by_row_y), (x, by_column_y),
            (filter, 1),
        )  # fmt: skip
        to_y = w.move(self.y, (number, self.span))
        # What tiles before have had counts as zero.
        old = [
            f.binary("sub", new, begin) if size % m else None
            for (begin, new), size in zip((down, along), self.tiles.size, strict=True)
        ]

        def weigh(c: Value | int, mask: Value | None) -> None:
            at = w.move(outputs, (c, 1))
            found: Square = []
            for i in range(m):
                found.append([])
                for k in range(m):
                    place = w.move(at, (i, by_row_y), (k, by_column_y))
                    for far, count in zip((i, k), old, strict=True):
                        if count is not None and far < m - 1:
                            is_new = f.compare("icmp sle", count, i64(far))
                            place = f.select(is_new, place, self.zeros)
                    found[-1].append(w.load(place, mask))
            found = transform(f, self.form.filters, found)
            w.store_square(found, w.move(to_y, (c, 1)), self.y_apart)

        w.each_vector(self.filters, weigh)

    def _multiply(self, many: Value) -> None:
        """At each point, channels × filters, added to the sums."""
        w, f, h = self.w, self.f, self.height

        def tile(s: Value, v: Value, to: Value, height: int, width: int) -> None:
            rows = Tile(
                w.element, w.lanes, tuple(range(height)), width, (None,) * width
            )
            spots = [
                f.at(to, i * self.span + j * w.lanes, w.element)
                for i in range(height)
                for j in range(width)
            ]
            sums = [f.load(place, w.type) for place in spots]
            sums = rows.accumulate(f, sums, s, v, [Term(many, self.depth, self.span)])
            for total, place in zip(sums, spots, strict=True):
                f.store(total, place)

        def strip(x: Value, v: Value, to: Value, width: int) -> None:
            whole, rest = divmod(self.channels, h)
            if whole:
                with f.loop(0, whole * h, h) as loop:
                    s, out = (
                        w.move(x, (loop.index, 1)),
                        w.move(to, (loop.index, self.span)),
                    )
                    tile(s, v, out, h, width)
            if rest:
                s, out = w.move(x, (whole * h, 1)), w.move(to, (whole * h, self.span))
                tile(s, v, out, rest, width)

        with f.loop(0, self.points) as point:
            x = w.move(self.x, (point.index, self.x_apart))
            y = w.move(self.y, (point.index, self.y_apart))
            to = w.move(self.sums, (point.index, self.sums_apart))
            step = self.width * w.lanes
            whole, rest = divmod(self.span, step)
            if whole:
                with f.loop(0, whole * step, step) as loop:
                    at = (loop.index, 1)
                    strip(x, w.move(y, at), w.move(to, at), self.width)
            if rest:
                last = (whole * step, 1)
                strip(x, w.move(y, last), w.move(to, last), rest // w.lanes)

    def _return(self, out: Value) -> None:
        """The taps that the sums come to."""
        w, f, g, t = self.w, self.f, self.g, self.form.size
        by_tap = g.channels * g.filters
        with f.loop(0, self.channels) as rows:
            sums = w.move(self.sums, (rows.index, self.span))
            to = w.move(out, (rows.index, g.filters))

            def vectors(c: Value | int, mask: Value | None) -> None:
                far = self.sums_apart
                found = w.load_square(w.move(sums, (c, 1)), t, t * far, far, None)
                found = transform(f, self.form.results, found)
                w.store_square(found, w.move(to, (c, 1)), by_tap, mask)

            w.each_vector(self.filters, vectors)
