"""Native code for convolutions by outputs and by data with Winograd's transforms.

A chunk takes some tiles at a time: it transforms their pixels, multiplies point by
point, and transforms the products back, all of it within the second cache. Filters are
transformed before, and stream by.
"""

from __future__ import annotations

from chainrule.compiler.convolution import Pixels, Plan, Writer, chunk_flop
from chainrule.compiler.emit import Value, i64
from chainrule.compiler.emitter import Chunks
from chainrule.compiler.ir import Convolution, Packed
from chainrule.compiler.polyphase import channels_of, polyphase
from chainrule.compiler.tile import Term, Tile
from chainrule.compiler.transforms import Tiles, even_height, transform
from chainrule.compiler.winograd import Winograd, apart

__all__ = ["WinogradPixels", "pack_transformed"]

_SCRATCH_BYTES = 1200 << 10
"""Of transformed pixels and products that a chunk holds: most of the second cache."""

_FEW_TILES = 28
"""A few register tiles, for which all filters are read."""


def pack_transformed(w: Writer, node: Packed) -> Chunks:
    """Filters at each point, panel by panel; one chunk a panel."""
    f, e, g, columns = w.f, w.e, node.geometry, node.columns
    _, kw, channels, filters = g.kernel
    terms, results = channels_of(node.by, g)
    (phase,) = polyphase(node.by, g)
    form = Winograd(node.tile, phase.rows.count)
    by_result, by_term = (filters, 1) if node.by == "data" else (1, filters)
    by_row, by_column = kw * channels * filters, channels * filters
    far = [
        [y * by_row + x * by_column for x in phase.columns.taps]
        for y in phase.rows.taps
    ]
    by_point = apart(terms * columns)
    panel = f.parameters[1]
    begin = f.binary("mul", panel, i64(columns))
    left = f.binary("sub", i64(results), begin)
    source = w.move(e.pointer(node.access.node), (begin, by_result))
    out = w.move(e.pointer(node), (panel, form.size**2 * by_point))
    with f.loop(0, terms) as loop, f.loop(0, columns, w.lanes) as across:
        j = across.index
        at = w.move(source, (loop.index, by_term), (j, by_result))
        to = w.move(out, (loop.index, columns), (j, 1))
        mask = f.first_lanes(f.binary("sub", left, j), w.lanes)
        taps = [
            [w.load_every(w.move(at, (x, 1)), by_result, mask) for x in row]
            for row in far
        ]
        w.store_square(transform(f, form.filters, taps), to, by_point)
    return w.finish((-(-results // columns), 1))


class WinogradPixels(Pixels):
    """The tiles of one chunk: of some images, or some rows of tiles of one."""

    def __init__(self, w: Writer, node: Convolution, images: int, batch: int) -> None:
        super().__init__(w, node)
        (self.phase,) = self.phases
        rows, columns = self.phase.rows, self.phase.columns
        self.form = Winograd(node.tile, rows.count)
        self.points = self.form.size**2
        tiles = self.tiles = Tiles((rows.size, columns.size), node.tile)
        self.depth = -(-self.terms // w.lanes) * w.lanes
        # So many tiles are taken at a time, and a chunk should have so many.
        most = max(1, _SCRATCH_BYTES // (4 * self.points * (self.depth + self.columns)))
        filters = self.points * self.terms * self.results
        all_tiles = tiles.per_image * batch
        wanted = max(1, int(chunk_flop(2.0 * filters * all_tiles) // (2 * filters)))
        if 4 * filters <= _SCRATCH_BYTES // 2:
            # They stay in the second cache: what else is there should be small.
            most = min(most, _FEW_TILES)
        elif all_tiles >= 8 * most:
            wanted = max(wanted, most)
        self.panels_each = self.panels
        if not images and wanted < _FEW_TILES:
            # Rather all tiles of some filters: each thread reads its own.
            shares = min(self.panels, -(-_FEW_TILES // wanted))
            self.panels_each = -(-self.panels // shares)
            wanted *= shares
        self.images_each = images or max(1, wanted // tiles.per_image)
        self.rows_each = tiles.down
        if not images and tiles.per_image >= 2 * wanted:
            blocks = min(tiles.down, tiles.per_image // wanted)
            if self.panels_each < self.panels:  # there are chunks; let them be equal
                blocks = max(b for b in range(1, blocks + 1) if tiles.down % b == 0)
            self.rows_each = -(-tiles.down // blocks)
        total = self.images_each * self.rows_each * tiles.across
        self.each = -(-total // -(-total // most))
        self.width = min(2, self.columns // w.lanes)
        self.height = even_height(self.each, w.registers // self.width)
        self.pixels_apart = apart(self.each * self.depth)
        self.products_apart = apart(self.each * self.columns)
        self.pixels = w.scratch(self.points * self.pixels_apart)
        self.products = w.scratch(self.points * self.products_apart)
        self.outputs = w.scratch(node.tile**2 * self.columns)

    def emit(self) -> Chunks:
        """The whole kernel."""
        w, f, e, tiles = self.w, self.f, self.e, self.tiles
        blocks = -(-tiles.down // self.rows_each)
        rest = f.binary("udiv", f.parameters[1], i64(blocks))
        row_block = f.binary("urem", f.parameters[1], i64(blocks))
        panel_block, image_block = i64(0), rest
        if self.panels_each < self.panels:
            above = f.binary("add", e.size(self.g.batch), i64(self.images_each - 1))
            image_blocks = f.binary("udiv", above, i64(self.images_each))
            panel_block = f.binary("udiv", rest, image_blocks)
            image_block = f.binary("urem", rest, image_blocks)
        first, last = w.share(image_block, self.images_each, self.g.batch)
        begin, end = w.share(row_block, self.rows_each, tiles.down)
        count = f.binary("mul", f.binary("sub", end, begin), i64(tiles.across))
        count = f.binary("mul", count, f.binary("sub", last, first))
        self.origin = first, begin
        packed = e.pointer(self.node.b.node)
        size = self.points * apart(self.terms * self.columns)
        first_panel, last_panel = w.share(panel_block, self.panels_each, self.panels)
        whole, ragged = divmod(self.results, self.columns)

        def panel(number: Value, columns: int) -> None:
            self._multiply(w.move(packed, (number, size)), many)
            result = f.binary("mul", number, i64(self.columns))
            self._return(block.index, many, result, columns)

        with f.loop(0, count, self.each) as block:
            many = e.least(f.binary("sub", count, block.index), i64(self.each))
            self._transform(block.index, many)
            if whole:
                with f.loop(first_panel, e.least(last_panel, i64(whole))) as loop:
                    panel(loop.index, self.columns)
            if ragged:
                with f.when(f.compare("icmp sgt", last_panel, i64(whole))):
                    panel(i64(whole), ragged)
        return w.finish(
            (self.panels, self.panels_each),
            (self.g.batch, self.images_each),
            (tiles.down, self.rows_each),
        )

    def _place(
        self, index: Value
    ) -> tuple[Value, tuple[Value, Value], tuple[Value, Value]]:
        """A tile's image, and along both axes where it begins and what is new."""
        image, row, column = self.tiles.split(self.w, index)
        first_image, first_row = self.origin
        image = self.f.binary("add", first_image, image)
        # Of rows of tiles: a chunk that has not all of them has one image.
        row = self.f.binary("add", first_row, row)
        down, along = self.tiles.place(self.w, row, column)
        return image, down, along

    def _transform(self, first: Value, many: Value) -> None:
        """What the tiles' pixels are at each point."""
        w, f, t = self.w, self.f, self.form.size
        _, by_row, by_column, _ = self.strides
        with f.loop(0, many) as loop:
            image, (y, _), (x, _) = self._place(f.binary("add", first, loop.index))
            source = self.image(self.phase, image, i64(0))
            source = w.move(source, (y, by_row), (x, by_column))
            out = w.move(self.pixels, (loop.index, self.depth))

            def vectors(c: Value | int, mask: Value | None) -> None:
                found = w.load_square(
                    w.move(source, (c, 1)), t, by_row, by_column, mask
                )
                found = transform(f, self.form.pixels, found)
                w.store_square(found, w.move(out, (c, 1)), self.pixels_apart)

            w.each_vector(self.terms, vectors)

    def _multiply(self, panel: Value, many: Value) -> None:
        """At each point, the tiles' sums over channels."""
        w, f, e, width = self.w, self.f, self.e, self.width
        rows = tuple(i * self.depth for i in range(self.height))
        tile = Tile(w.element, w.lanes, rows, width, (None,) * width)
        terms = [Term(self.terms, 1, self.columns)]
        with f.loop(0, self.points) as point:
            x = w.move(self.pixels, (point.index, self.pixels_apart))
            to = w.move(self.products, (point.index, self.products_apart))
            v = w.move(panel, (point.index, apart(self.terms * self.columns)))
            with f.loop(0, many, self.height) as down:
                # The last rows are made twice; of few tiles, some that are not there.
                row = e.least(down.index, f.binary("sub", many, i64(self.height)))
                row = f.call("llvm.smax.i64", "i64", row, i64(0))
                s, out = w.move(x, (row, self.depth)), w.move(to, (row, self.columns))
                for j in range(0, self.columns, width * w.lanes):
                    sums = tile.accumulate(f, tile.zeros(), s, w.move(v, (j, 1)), terms)
                    for i, total in enumerate(sums):
                        far = i // width * self.columns + j + i % width * w.lanes
                        f.store(total, f.at(out, far, w.element))

    def _return(self, first: Value, many: Value, result: Value, columns: int) -> None:
        """The tiles' outputs, which are then handed out."""
        w, f, e = self.w, self.f, self.e
        t, m = self.form.size, self.form.outputs
        width = -(-columns // w.lanes)
        with f.loop(0, many) as loop:
            at = w.move(self.products, (loop.index, self.columns))
            with f.loop(0, width * w.lanes, w.lanes) as across:
                far, j = self.products_apart, across.index
                found = w.load_square(w.move(at, (j, 1)), t, t * far, far, None)
                found = transform(f, self.form.results, found)
                w.store_square(found, w.move(self.outputs, (j, 1)), width * w.lanes)
            image, (y, begin), (x, left) = self._place(
                f.binary("add", first, loop.index)
            )
            bottom = f.binary("add", y, i64(m))
            self.hand_out(
                self.phase, Plan(m, m), self.outputs, image, (begin, y, bottom),
                (left, x), result, width, columns,
            )  # fmt: skip
        e.lanes = w.lanes
