"""Native code for the gradients of convolutions by their filters.

∂L/∂F[i, j, c, o] = Σ X[n, s·y + d·i, s·x + d·j, c] · ∂L/∂O[n, y, x, o]

The sum over places (n, y, x) is taken up some rows of an image at a time. A register
tile is some channels × two vectors of filters. Of many channels, what a tile reads is
copied first, so that it lies together and stays in the first cache while the tile goes
over all taps: as arrays lie, pixels are so far apart that they displace each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chainrule.compiler.convolution import Writer, full_strides
from chainrule.compiler.emit import Value, i64
from chainrule.compiler.emitter import Chunks
from chainrule.compiler.ir import Convolution
from chainrule.compiler.tile import Term, Tile

__all__ = ["DirectFilters"]

_CHUNKS = 12
"""So many chunks at least are there to share, where a sum can be cut into them."""

_BLOCK_PIXELS = 128
"""About how many pixels a sum over places takes up before it goes back to memory: so
that both operands stay in the first cache while all tiles go over them."""

_COPIED_PIXELS = 192
"""The same where a tile's operands are copied."""

_COPIED_BYTES = 256 << 10
"""Of the image, at most: a part of the second cache."""

_MANY_CHANNELS = 64
"""From so many on, copying pays: with fewer, pixels lie close to each other."""


class DirectFilters:
    """The tiles of one part: sums over its share of the images' rows."""

    def __init__(self, w: Writer, node: Convolution) -> None:
        self.w, self.f, self.e = w, w.f, w.e
        self.node = node
        g = self.g = node.geometry
        self.by_x = full_strides(node.a.node, g.images)
        self.by_y = full_strides(node.b.node, g.outputs)
        self.kh, self.kw, self.channels, _ = g.kernel
        self.filters = g.filters // g.groups
        oh, ow = g.places
        self.is_listed = g.groups == 1 and math.prod(g.kernel[:3]) <= w.registers
        self.is_copied = (
            g.groups == 1
            and self.channels >= _MANY_CHANNELS
            and not (self.is_listed or node.swapped)
        )
        # A unit is what a sum takes up at a time: some rows of one image.
        if self.is_copied:
            self.pixels = _COPIED_PIXELS
            self.rows_each = min(oh, max(1, self.pixels // ow))
            self.rows_each = -(-oh // -(-oh // self.rows_each))
        else:
            self.pixels = _BLOCK_PIXELS
            self.rows_each = -(-oh // -(-oh * ow // self.pixels))
        self.row_blocks = -(-oh // self.rows_each)
        # Where the sums are too large for many parts, chunks share them out: by rows
        # of taps, then by columns.
        self.tap_rows = self.column_blocks = 1
        self.columns = g.filters
        if node.parts < _CHUNKS and not (self.is_listed or node.swapped):
            self.tap_rows = self.kh
            many = -(-_CHUNKS // (node.parts * self.kh))
            if g.groups == 1 and many > 1 and g.filters > 64:
                blocks = min(many, g.filters // 64)
                self.columns = -(-g.filters // blocks // 32) * 32
                self.column_blocks = -(-g.filters // self.columns)
                if g.filters % self.columns:
                    self.columns, self.column_blocks = g.filters, 1

    def emit(self) -> Chunks:
        w, f, e, g = self.w, self.f, self.e, self.g
        size = self.kh * self.kw * self.channels * g.filters
        rest, column_block = self._divided(f.parameters[1], self.column_blocks)
        part, row = self._divided(rest, self.tap_rows)
        self.first_row = row
        self.shift = f.binary("mul", column_block, i64(self.columns))
        out = w.move(
            e.pointer(self.node), (part, size), (row, size // self.kh), (self.shift, 1)
        )
        self._clear(out, size // self.tap_rows // g.filters)
        units = e.size(g.batch)
        if self.row_blocks > 1:
            units = f.binary("mul", units, i64(self.row_blocks))
        parts = i64(self.node.parts)
        each = f.binary("add", units, i64(self.node.parts - 1))
        each = f.binary("udiv", each, parts)
        first = f.binary("mul", part, each)
        last = e.least(f.binary("add", first, each), units)
        # Small images are taken several at a time.
        oh, ow = g.places
        many = max(1, self.pixels // (oh * ow)) if self.row_blocks == 1 else 1
        x0, y0 = w.origin(self.node.a), w.origin(self.node.b)
        window = g.window
        (top, _), (side, _) = window.padding
        copied = _Copied(self, many) if self.is_copied else None
        with f.loop(first, last, many) as unit:
            if self.row_blocks == 1:
                image, row = unit.index, i64(0)
                count: Value | int = 1
                if many > 1:
                    left = f.binary("sub", last, unit.index)
                    count = e.least(left, i64(many))
                rows: Value | int = oh
            else:
                image = f.binary("udiv", unit.index, i64(self.row_blocks))
                row = f.binary("urem", unit.index, i64(self.row_blocks))
                row = f.binary("mul", row, i64(self.rows_each))
                count = 1
                rows = e.least(i64(self.rows_each), f.binary("sub", i64(oh), row))
            sy, sx = window.stride
            x = w.move(
                x0, (image, self.by_x[0]), (row, sy * self.by_x[1]),
                (-top, self.by_x[1]), (-side, self.by_x[2]),
            )  # fmt: skip
            y = w.move(y0, (image, self.by_y[0]), (row, self.by_y[1]), (self.shift, 1))
            if copied:
                copied.emit(out, x, y, count, rows)
            else:
                terms = [
                    Term(count, self.by_x[0], self.by_y[0]),
                    Term(rows, sy * self.by_x[1], self.by_y[1]),
                    Term(ow, sx * self.by_x[2], self.by_y[2]),
                ]
                self._tiles(out, x, y, terms)
        return w.finish(
            (self.column_blocks, 1), (self.tap_rows, 1), (self.node.parts, 1)
        )

    def _divided(self, x: Value, by: int) -> tuple[Value, Value]:
        f = self.f
        if by == 1:
            return x, i64(0)
        return f.binary("udiv", x, i64(by)), f.binary("urem", x, i64(by))

    def _clear(self, out: Value, rows: int) -> None:
        """Zeros where the chunk adds up."""
        w, f, g = self.w, self.f, self.g
        width = self.columns
        if self.column_blocks == 1:
            rows, width = 1, rows * width
        zero = Value(w.type, "zeroinitializer")
        whole = width - width % w.lanes
        with f.loop(0, rows) as loop:
            row = w.move(out, (loop.index, g.filters))
            if whole:
                with f.loop(0, whole, w.lanes) as columns:
                    f.store(zero, f.at(row, columns.index, w.element))
            for i in range(whole, width):
                f.store(Value(w.element, "0.0"), f.at(row, i, w.element))

    def _tiles(self, out: Value, x: Value, y: Value, terms: list[Term]) -> None:
        """All tiles of the filters, for some places."""
        w, f, g = self.w, self.f, self.g
        dy, dx = g.window.dilation
        by_row, by_column = dy * self.by_x[1], dx * self.by_x[2]
        out_row = self.kw * self.channels * g.filters
        if self.node.swapped:
            terms = [Term(c, v, s) for c, s, v in terms]
            is_run = by_column == self.channels
            with f.loop(0, self.kh) as i:
                at = w.move(x, (i.index, by_row))
                to = w.move(out, (i.index, out_row))
                if is_run:
                    run = self.kw * self.channels
                    self._grid(to, run, y, 1, g.filters, at, run, terms)
                else:
                    with f.loop(0, self.kw) as j:
                        v = w.move(at, (j.index, by_column))
                        part = w.move(to, (j.index, self.channels))
                        self._grid(
                            part, self.kw * self.channels, y, 1, g.filters, v,
                            self.channels, terms,
                        )  # fmt: skip
            return
        if self.is_listed:
            places = tuple(
                i * by_row + j * by_column + c
                for i in range(self.kh)
                for j in range(self.kw)
                for c in range(self.channels)
            )
            # Two vectors wide where there are as many columns: a number is then loaded
            # for two products instead of one.
            most = w.registers // (2 if g.filters > w.lanes else 1)
            groups = -(-len(places) // most)
            each = -(-len(places) // groups)
            for first in range(0, len(places), each):
                some = places[first : first + each]
                to = f.at(out, first * g.filters, w.element)
                self._listed(to, g.filters, x, some, y, g.filters, terms)
            return
        rows = self.kh // self.tap_rows
        columns = self.filters if self.column_blocks == 1 else self.columns
        with f.loop(0, g.groups) as group, f.loop(0, rows) as i:
            tap = f.binary("add", i.index, self.first_row)
            at = w.move(x, (tap, by_row), (group.index, self.channels))
            v = w.move(y, (group.index, self.filters))
            to = w.move(out, (i.index, out_row), (group.index, self.filters))
            if by_column == self.channels:
                run = self.kw * self.channels
                self._grid(to, g.filters, at, 1, run, v, columns, terms)
            else:
                with f.loop(0, self.kw) as j:
                    s = w.move(at, (j.index, by_column))
                    part = w.move(to, (j.index, self.channels * g.filters))
                    self._grid(part, g.filters, s, 1, self.channels, v, columns, terms)

    def _grid(
        self,
        out: Value,
        out_stride: int,
        s: Value,
        row_stride: int,
        rows: int,
        v: Value,
        columns: int,
        terms: list[Term],
    ) -> None:
        """rows × columns of sums, in tiles of nearly equal heights."""
        w, f = self.w, self.f
        width = min(2, -(-columns // w.lanes))
        most = w.registers // width
        tiles = -(-rows // most)
        height, many = -(-rows // tiles), tiles
        lower = height * tiles - rows  # so many tiles have a row less
        many -= lower

        def tile(first: Value | int, size: int) -> None:
            places = tuple(r * row_stride for r in range(size))
            at = w.move(s, (first, row_stride))
            to = w.move(out, (first, out_stride))
            self._listed(to, out_stride, at, places, v, columns, terms)

        if many > 1:
            with f.loop(0, many * height, height) as loop:
                tile(loop.index, height)
        elif many:
            tile(0, height)
        if lower > 1:
            with f.loop(many * height, rows, height - 1) as loop:
                tile(loop.index, height - 1)
        elif lower:
            tile(many * height, height - 1)

    def _listed(
        self,
        out: Value,
        out_stride: int,
        s: Value,
        places: tuple[int, ...],
        v: Value,
        columns: int,
        terms: list[Term],
    ) -> None:
        """One tile's rows times all columns, added to what is there."""
        w, f = self.w, self.f
        most = max(1, min(2, w.registers // len(places)))
        width = min(most, -(-columns // w.lanes))
        step = width * w.lanes
        whole = columns - columns % step

        def strip(first: Value | int, count: int) -> None:
            masks = w.masks(count)
            tile = Tile(w.element, w.lanes, places, len(masks), masks)
            at = w.move(v, (first, 1))
            to = w.move(out, (first, 1))
            spots = [
                (f.at(to, i * out_stride + j * w.lanes, w.element), mask)
                for i in range(len(places))
                for j, mask in enumerate(masks)
            ]
            sums = [w.load(place, mask) for place, mask in spots]
            sums = tile.accumulate(f, sums, s, at, terms)
            for total, (place, mask) in zip(sums, spots, strict=True):
                w.store(total, place, mask)

        if whole:
            with f.loop(0, whole, step) as loop:
                strip(loop.index, step)
        if columns % step:
            strip(whole, columns % step)


class _Copied:
    """The tiles of one unit, from copies of what they read.

    The image is copied for each tile's channels, pixel by pixel, and what reached the
    outputs for each strip of two vectors of filters. A tile then goes over all taps.
    """

    def __init__(self, of: DirectFilters, images: int) -> None:
        self.of, self.w, self.f = of, of.w, of.f
        g, w = of.g, of.w
        self.images = images
        self.taps = (of.kh // of.tap_rows, of.kw)
        reach = [d * (k - 1) for d, k in zip(g.window.dilation, self.taps, strict=True)]
        self.stride, self.reach = g.window.stride, reach
        self.ow = g.places[1]
        self.in_width = (self.ow - 1) * self.stride[1] + reach[1] + 1
        self.in_rows = (of.rows_each - 1) * self.stride[0] + reach[0] + 1
        # Tiles of nearly equal heights: some have a channel less.
        self.width = min(2, -(-of.columns // w.lanes))
        tiles = -(-of.channels // (w.registers // self.width))
        self.height = -(-of.channels // tiles)
        lower = self.height * tiles - of.channels
        self.heights = (self.height,) * (tiles - lower) + (self.height - 1,) * lower
        self.by_pixel = -(-self.height // w.lanes) * w.lanes
        self.by_row = self.in_width * self.by_pixel
        self.by_image = self.in_rows * self.by_row
        self.by_tile = images * self.by_image
        size_bytes = 8 if w.element == "double" else 4
        self.most = max(1, _COPIED_BYTES // (self.by_tile * size_bytes))
        self.most = min(self.most, tiles)
        self.strip = self.width * w.lanes
        self.x = w.scratch(self.most * self.by_tile)
        self.y = w.scratch(images * of.rows_each * self.ow * self.strip)

    def emit(
        self, out: Value, x: Value, y: Value, count: Value | int, rows: Value | int
    ) -> None:
        """All tiles, for so many rows of so many images from x and y on."""
        of, w, f = self.of, self.w, self.f
        x = w.move(x, (of.first_row, of.g.window.dilation[0] * of.by_x[1]))
        channel = 0
        for first in range(0, len(self.heights), self.most):
            heights = self.heights[first : first + self.most]
            self._copy_image(w.move(x, (channel, 1)), heights, count, rows)
            to = w.move(out, (channel, of.g.filters))
            whole = of.columns - of.columns % self.strip

            def strip(
                place: Value | int,
                columns: int,
                to: Value = to,
                heights: tuple[int, ...] = heights,
            ) -> None:
                masks = w.masks(columns)
                self._copy_strip(w.move(y, (place, 1)), masks, count, rows)
                self._tiles(w.move(to, (place, 1)), heights, masks, count, rows)

            if whole:
                with f.loop(0, whole, self.strip) as loop:
                    strip(loop.index, self.strip)
            if of.columns % self.strip:
                strip(whole, of.columns % self.strip)
            channel += sum(heights)

    def _copy(
        self, source: Value, target: Value, masks: tuple[Value | None, ...]
    ) -> None:
        f, w = self.f, self.w
        for j, mask in enumerate(masks):
            found = w.load(f.at(source, j * w.lanes, w.element), mask)
            f.store(found, f.at(target, j * w.lanes, w.element))

    @contextmanager
    def _pixels(
        self,
        sizes: Sequence[Value | int],
        source: Value,
        by_source: Sequence[int],
        target: Value,
        by_target: Sequence[int],
    ) -> Iterator[tuple[Value, Value]]:
        """A walk over images, rows and pixels: where each one is, and its copy."""
        f, w = self.f, self.w
        images, rows, pixels = sizes
        with (
            f.loop(0, images) as i,
            f.loop(0, rows) as j,
            f.loop(0, pixels) as k,
        ):
            at = (i.index, j.index, k.index)
            yield (
                w.move(source, *zip(at, by_source[:3], strict=True)),
                w.move(target, *zip(at, by_target, strict=True)),
            )

    def _copy_image(
        self, x: Value, heights: tuple[int, ...], count: Value | int, rows: Value | int
    ) -> None:
        """The pixels that the taps see, for each tile its channels."""
        of, w, f = self.of, self.w, self.f
        needed: Value | int = self.in_rows
        if not isinstance(rows, int):
            above = f.binary("sub", rows, i64(1))
            needed = f.binary("mul", above, i64(self.stride[0]))
            needed = f.binary("add", needed, i64(self.reach[0] + 1))
        masks = {height: self.w.masks(height) for height in heights}
        copies = (self.by_image, self.by_row, self.by_pixel)
        sizes = (count, needed, self.in_width)
        with self._pixels(sizes, x, of.by_x, self.x, copies) as (source, target):
            channel = 0
            for i, height in enumerate(heights):
                at = f.at(source, channel, w.element)
                to = f.at(target, i * self.by_tile, w.element)
                self._copy(at, to, masks[height])
                channel += height

    def _copy_strip(
        self,
        y: Value,
        masks: tuple[Value | None, ...],
        count: Value | int,
        rows: Value | int,
    ) -> None:
        """What reached the outputs, for the columns of one strip."""
        of = self.of
        by_row = self.ow * self.strip
        copies = (of.rows_each * by_row, by_row, self.strip)
        sizes = (count, rows, self.ow)
        with self._pixels(sizes, y, of.by_y, self.y, copies) as (source, target):
            self._copy(source, target, masks)

    def _tiles(
        self,
        out: Value,
        heights: tuple[int, ...],
        masks: tuple[Value | None, ...],
        count: Value | int,
        rows: Value | int,
    ) -> None:
        """All tiles of one strip; those of one height share their code."""
        f, w = self.f, self.w
        done = channel = 0
        for height in dict.fromkeys(heights):
            many = heights.count(height)
            with f.loop(done, done + many) as loop:
                number = f.binary("sub", loop.index, i64(done))
                to = w.move(
                    out,
                    (channel, self.of.g.filters),
                    (number, height * self.of.g.filters),
                )
                at = w.move(self.x, (loop.index, self.by_tile))
                self._tile(to, at, height, masks, count, rows)
            done += many
            channel += many * height

    def _tile(
        self,
        out: Value,
        x: Value,
        height: int,
        masks: tuple[Value | None, ...],
        count: Value | int,
        rows: Value | int,
    ) -> None:
        """One tile's channels and filters, for all taps; added to what is there."""
        of, f, w = self.of, self.f, self.w
        filters = of.g.filters
        tile = Tile(w.element, w.lanes, tuple(range(height)), len(masks),
                    (None,) * len(masks))  # fmt: skip
        by_row = self.ow * self.strip
        terms = [
            Term(count, self.by_image, of.rows_each * by_row),
            Term(rows, self.stride[0] * self.by_row, by_row),
            Term(self.ow, self.stride[1] * self.by_pixel, self.strip),
        ]
        dy, dx = of.g.window.dilation
        with f.loop(0, self.taps[0]) as i, f.loop(0, self.taps[1]) as j:
            at = w.move(x, (i.index, dy * self.by_row), (j.index, dx * self.by_pixel))
            to = w.move(
                out,
                (i.index, of.kw * of.channels * filters),
                (j.index, of.channels * filters),
            )
            spots = [
                (f.at(to, row * filters + n * w.lanes, w.element), mask)
                for row in range(height)
                for n, mask in enumerate(masks)
            ]
            sums = [w.load(place, mask) for place, mask in spots]
            sums = tile.accumulate(f, sums, at, self.y, terms)
            for total, (place, mask) in zip(sums, spots, strict=True):
                w.store(total, place, mask)
