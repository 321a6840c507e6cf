"""Native code for convolutions: by outputs and by data.

With channels last no patches are laid out: a row of the register tile is a pixel, a
column a vector of channels, and the terms of a sum lie at constant distances, in an
image that has margins and in filters packed panel by panel. What follows elementwise is
computed while a tile is at hand.

Work is split by shape only, and every sum is made in one order, so results do not
depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chainrule.compiler.emit import Function, Module, Value, i64, vector
from chainrule.compiler.emitter import (
    SLOT_SCRATCH,
    SLOT_SCRATCH_BYTES,
    Chunks,
    Emitter,
    Position,
    Slots,
    llvm_type,
)
from chainrule.compiler.fusion import Kernel
from chainrule.compiler.host import Target
from chainrule.compiler.ir import (
    Access,
    Convolution,
    Node,
    Packed,
    Size,
)
from chainrule.compiler.polyphase import Phase, channels_of, columns_of, polyphase
from chainrule.compiler.tile import Term, Tile, sum_across

__all__ = [
    "DirectPixels",
    "Pixels",
    "Plan",
    "Writer",
    "chunk_flop",
    "full_strides",
    "pack",
]

_ROWS = {32: 28, 16: 12}
"""Vectors that sums may fill, by the number of registers; the rest hold operands."""

_CHUNK_FLOP = 8_000_000
"""About 50 µs: enough for a panel of filters to come into the second cache."""
_LEAST_FLOP = 300_000
_FEW_CHUNKS = 4

_STACK_BYTES = 16 << 10
"""Of a thread's own stack, which may be as small as 128 KiB, at a time."""


def chunk_flop(total: float) -> float:
    """How much a chunk should do: of few images, each thread wants a share."""
    return min(_CHUNK_FLOP, max(_LEAST_FLOP, total / _FEW_CHUNKS))


def full_strides(node: Node, full: Sequence[Size]) -> list[int]:
    """How far neighbours along all axes lie apart, those of size 1 included."""
    kept = iter(node.strides)
    if full[-1] == 1 and node.shape == tuple(full[:-1]):
        full = (*(0 for _ in node.shape), 1)
    elif node.shape == tuple(full):
        full = (0,) * len(full)
    found = [0 if size == 1 else next(kept) for size in full]
    assert all(isinstance(s, int) for s in found)
    return found  # type: ignore[return-value]


class Writer:
    """What the kernels share: a function, an emitter, and where things lie."""

    def __init__(
        self,
        module: Module,
        kernel: Kernel,
        target: Target,
        slots: Slots,
        stored: set[Node],
    ) -> None:
        (node,) = kernel.cores
        self.node = node
        self.kernel = kernel
        self.module = module
        self.f = Function(
            module, f"cr_{kernel.name}", [("ptr", "ctx"), ("i64", "chunk")]
        )
        self.e = Emitter(module, "", target, slots, kernel, stored, self.f)
        self.element = llvm_type(node.dtype)
        self.lanes = self.e.lanes = target.lanes(self.element)
        self.registers = _ROWS[target.num_registers]
        self.type = vector(self.element, self.lanes)
        self.claimed: tuple[Value, Value] | None = None
        self.scratch_bytes = 0

    def origin(self, access: Access) -> Value:
        """The address of a node's first element."""
        node = access.node
        return self.f.at(self.e.pointer(node), node.start, self.element)

    def move(self, pointer: Value, *by: tuple[Value | int, int]) -> Value:
        """A pointer further by counts of strides."""
        f = self.f
        for count, stride in by:
            if isinstance(count, int):
                pointer = f.at(pointer, count * stride, self.element)
            elif stride:
                far = f.binary("mul", count, i64(stride)) if stride != 1 else count
                pointer = f.at(pointer, far, self.element)
        return pointer

    def masks(self, count: int) -> tuple[Value | None, ...]:
        """For each vector of so many numbers, which of its lanes are there."""
        f, lanes = self.f, self.lanes
        return tuple(
            f.first_lanes(count - j, lanes) if count - j < lanes else None
            for j in range(0, count, lanes)
        )

    def load(self, place: Value, mask: Value | None) -> Value:
        """A vector, or the lanes of it that the mask has."""
        if mask is None:
            return self.f.load(place, self.type)
        return self.f.masked_load(place, mask, self.type)

    def load_every(self, place: Value, apart: int, mask: Value | None) -> Value:
        """A vector of numbers that lie so far apart."""
        f = self.f
        if apart == 1:
            return self.load(place, mask)
        far = ", ".join(f"i64 {i * apart}" for i in range(self.lanes))
        offsets = Value(vector("i64", self.lanes), f"<{far}>")
        text = f"getelementptr {self.element}, {place}, {offsets}"
        return f.gather(f.value(vector("ptr", self.lanes), text), mask, self.type)

    def store(self, x: Value, place: Value, mask: Value | None) -> None:
        """Put a vector down, or the lanes of it that the mask has."""
        if mask is None:
            self.f.store(x, place)
        else:
            self.f.masked_store(x, place, mask)

    def load_square(
        self, place: Value, size: int, by_row: int, by_column: int, mask: Value | None
    ) -> list[list[Value]]:
        """Vectors from so many rows and columns."""
        rows = [self.move(place, (i, by_row)) for i in range(size)]
        return [
            [self.load(self.move(r, (k, by_column)), mask) for k in range(size)]
            for r in rows
        ]

    def store_square(
        self,
        values: Sequence[Sequence[Value]],
        place: Value,
        apart: int,
        mask: Value | None = None,
    ) -> None:
        """Put rows of vectors down one by one, so far apart."""
        for number, value in enumerate(v for row in values for v in row):
            self.store(value, self.move(place, (number, apart)), mask)

    def each_vector(
        self, count: int, body: Callable[[Value | int, Value | None], None]
    ) -> None:
        """Do something for each vector of so many numbers: where it is, its mask."""
        whole, rest = divmod(count, self.lanes)
        if whole:
            with self.f.loop(0, whole * self.lanes, self.lanes) as loop:
                body(loop.index, None)
        if rest:
            body(whole * self.lanes, self.f.first_lanes(rest, self.lanes))

    def scratch(self, count: int) -> Value:
        """Memory for so many numbers, until the chunk ends."""
        f, size_bytes = self.f, count * (8 if self.element == "double" else 4)
        if size_bytes <= _STACK_BYTES:
            text = f"alloca [{count} x {self.element}], align 64"
            return f.at_entry("ptr", text)
        if self.claimed is None:
            self.claimed = self._claim()
        place = f.at(self.claimed[0], self.scratch_bytes, "i8")
        self.scratch_bytes += -(-size_bytes // 64) * 64
        return place

    def _claim(self) -> tuple[Value, Value]:
        """A block of the machine's scratch that no other chunk has, and its mark.

        There is one for each thread. In front stands their number, then their marks.
        """
        f, ctx = self.f, self.f.parameters[0]
        region = f.load(f.at(ctx, SLOT_SCRATCH, "i64"), "ptr")
        size_bytes = f.load(f.at(ctx, SLOT_SCRATCH_BYTES, "i64"), "i64")
        count = f.load(region, "i64")
        name, before = f.fresh("claim"), f.block
        number, following = Value("i64", f"%{name}.i"), f"%{name}.next"
        f.jump(name)
        f.label(name)
        f.line(
            f"{number.name} = phi i64 [ 0, %{before} ], [ {following}, %{name}.taken ]"
        )
        far = f.binary("mul", f.binary("add", number, i64(1)), i64(64))
        mark = f.at(region, far, "i8")
        pair = f.value("{ i64, i1 }", f"cmpxchg {mark}, i64 0, i64 1 acquire monotonic")
        is_mine = f.value("i1", f"extractvalue {pair}, 1")
        f.branch(is_mine, f"{name}.mine", f"{name}.taken")
        f.label(f"{name}.taken")
        above = f.binary("add", number, i64(1))
        is_last = f.compare("icmp sge", above, count)
        f.line(f"{following} = select {is_last}, i64 0, {above}")
        f.jump(name)
        f.label(f"{name}.mine")
        head = f.binary("mul", f.binary("add", count, i64(1)), i64(64))
        far = f.binary("add", head, f.binary("mul", number, size_bytes))
        return f.at(region, far, "i8"), mark

    def share(self, number: Value, each: int, total: Size) -> tuple[Value, Value]:
        """Where part ``number`` of so many each begins and ends."""
        f = self.f
        first = f.binary("mul", number, i64(each)) if each != 1 else number
        end = f.binary("add", first, i64(each))
        return first, self.e.least(end, self.e.size(total))

    def finish(self, *chunks: tuple[Size, int]) -> Chunks:
        if self.claimed:
            self.f.line(f"store atomic i64 0, {self.claimed[1]} release, align 8")
        self.f.ret()
        self.module.add_kernel(self.f)
        return Chunks(chunks, self.scratch_bytes)


# ----------------------------------------------------------------------- packing


def pack(w: Writer, node: Packed) -> Chunks:
    """Filters in the order in which tiles read them; one chunk a panel."""
    f, e = w.f, w.e
    g, columns = node.geometry, node.columns
    _, kw, channels, filters = g.kernel
    to_data = node.by == "data"
    outs = filters // g.groups
    terms, results = channels_of(node.by, g)
    panels = -(-results // columns)
    group = f.binary("udiv", f.parameters[1], i64(panels))
    panel = f.binary("urem", f.parameters[1], i64(panels))
    begin = f.binary("mul", panel, i64(columns))
    source_node = node.access.node
    ky, kx, kc, ko = kw * channels * filters, channels * filters, filters, 1
    by_result, by_term = (kc, ko) if to_data else (ko, kc)
    source = w.move(e.pointer(source_node), (group, outs), (begin, by_result))
    target_place = e.pointer(node)
    left = f.binary("sub", i64(results), begin)
    masks = [
        f.first_lanes(f.binary("sub", left, i64(j)), w.lanes)
        for j in range(0, columns, w.lanes)
    ]
    offset = 0
    for phase in polyphase(node.by, g):
        depth = phase.depth(terms)
        if not depth:
            continue
        ty, tx = phase.rows, phase.columns
        out = w.move(
            target_place, (offset, 1), (f.parameters[1], depth * columns)
        )  # fmt: skip
        with f.loop(0, ty.count) as rows, f.loop(0, tx.count) as taps:
            y = f.binary("mul", rows.index, i64(ty.tap_step))
            x = f.binary("mul", taps.index, i64(tx.tap_step))
            s = w.move(source, (ty.tap, ky), (y, ky), (tx.tap, kx), (x, kx))
            number = f.binary("mul", rows.index, i64(tx.count))
            number = f.binary("add", number, taps.index)
            d = w.move(out, (number, terms * columns))
            with f.loop(0, terms) as loop:
                at_s = w.move(s, (loop.index, by_term))
                at_d = w.move(d, (loop.index, columns))
                for j, mask in enumerate(masks):
                    place = f.at(at_s, j * w.lanes * by_result, w.element)
                    if columns == 1:
                        f.store(f.load(place, w.element), at_d)
                        continue
                    found = w.load_every(place, by_result, mask)
                    f.store(found, f.at(at_d, j * w.lanes, w.element))
        offset += g.groups * panels * depth * columns
    return w.finish((g.groups * panels, 1))


# ----------------------------------------------------------- by outputs and by data


@dataclass(frozen=True)
class Plan:
    """How results are cut into tiles: so many rows and columns of pixels."""

    height: int
    width: int


def _pixel_tile(rows: int, columns: int, most: int) -> Plan:
    """The tile of at most so many pixels that covers an image with least excess."""
    best: tuple[float, Plan] | None = None
    for width in range(1, min(columns, most) + 1):
        height = min(rows, most // width) if width == columns else 1
        tiles = -(-rows // height) * -(-columns // width)
        # Each tile also loads its vectors, and hands out its results.
        cost = tiles * (height * width + 1.5)
        if best is None or cost < best[0]:
            best = cost, Plan(height, width)
    assert best is not None
    return best[1]


class Pixels:
    """What chunks of a kernel by outputs or by data share: images, pixels, panels."""

    def __init__(self, w: Writer, node: Convolution) -> None:
        self.w, self.f, self.e = w, w.f, w.e
        self.node = node
        g = self.g = node.geometry
        self.full = g.outputs if node.by == "outputs" else g.images
        self.source = g.images if node.by == "outputs" else g.outputs
        self.phases = polyphase(node.by, g)  # type: ignore[arg-type]
        self.terms, self.results = channels_of(node.by, g)  # type: ignore[arg-type]
        self.columns = columns_of(self.results, self.terms)
        self.panels = -(-self.results // self.columns)
        self.strides = full_strides(node.a.node, self.source)
        self.image_origin = w.origin(node.a)

    def image(self, phase: Phase, number: Value, group: Value) -> Value:
        """Where the first term of a phase's first result lies in an image."""
        by_image, by_row, by_column, _ = self.strides
        return self.w.move(
            self.image_origin,
            (number, by_image),
            (phase.rows.offset, by_row), (phase.columns.offset, by_column),
            (group, self.terms),
        )  # fmt: skip

    def hand_out(
        self,
        phase: Phase,
        plan: Plan,
        scratch: Value,
        image: Value,
        down: tuple[Value, Value, Value],
        along: tuple[Value, Value],
        result: Value,
        width: int,
        count: int,
    ) -> None:
        """Each vector of a tile goes on; pixels of the tile before are left out."""
        w, f, e = self.w, self.f, self.e
        begin, top, bottom = down
        first, left = along
        ty, tx = phase.rows, phase.columns
        right = f.binary("add", left, i64(plan.width))
        roots = self.w.kernel.roots
        is_single = self.full[-1] == 1  # then positions have no axis of channels
        e.lanes = 1 if is_single else w.lanes
        with f.loop(begin, bottom) as rows:
            row = f.binary("sub", rows.index, top)
            row = f.binary("mul", row, i64(plan.width))
            y = _scaled(f, rows.index, ty.step, ty.first)
            with f.loop(first, right) as columns, e.scope():
                pixel = f.binary("sub", columns.index, left)
                pixel = f.binary("add", row, pixel)
                place = w.move(scratch, (pixel, width * w.lanes))
                x = _scaled(f, columns.index, tx.step, tx.first)
                values = []
                for j in range(width):
                    some = count - j * w.lanes
                    mask = None
                    if some < w.lanes and not is_single:
                        mask = f.first_lanes(some, w.lanes)
                    channel = f.binary("add", result, i64(j * w.lanes))
                    full = [
                        Position(image), Position(y), Position(x), Position(channel, 1)
                    ]  # fmt: skip
                    at = [p for p, s in zip(full, self.full, strict=True) if s != 1]
                    type = w.element if is_single else w.type
                    sums = f.load(f.at(place, j * w.lanes, w.element), type)
                    with e.masked(mask):
                        e.remember(self.node, at, sums)
                        for root in roots:
                            values.append((root, at, mask, e.value(root, at)))
                for root, at, mask, value in values:
                    with e.masked(mask):
                        e.store(root, at, value)


class DirectPixels(Pixels):
    """The tiles of one chunk: some images, or some rows of one."""

    def __init__(self, w: Writer, node: Convolution, images: int, batch: int) -> None:
        super().__init__(w, node)
        g = self.g
        per_image = 2.0 * self.results * g.groups * sum(
            p.depth(self.terms) * p.rows.size * p.columns.size for p in self.phases
        )  # fmt: skip
        most = max(p.rows.size for p in self.phases)
        self.rows_each = most
        wanted = chunk_flop(per_image * batch)
        self.images_each = images or max(1, int(wanted // max(per_image, 1)))
        if not images and per_image >= 2 * wanted:
            blocks = min(most, int(per_image // wanted))
            self.rows_each = -(-most // blocks)
        self.most_rows = most

    def emit(self) -> Chunks:
        w, f, e = self.w, self.f, self.e
        blocks = -(-self.most_rows // self.rows_each)
        image_block = f.binary("udiv", f.parameters[1], i64(blocks))
        row_block = f.binary("urem", f.parameters[1], i64(blocks))
        first, last = w.share(image_block, self.images_each, self.g.batch)
        self.images = first, last
        packed = e.pointer(self.node.b.node)
        offset = 0
        for phase in self.phases:
            depth = phase.depth(self.terms)
            begin = f.binary("mul", row_block, i64(self.rows_each))
            end = f.binary("add", begin, i64(self.rows_each))
            end = e.least(end, i64(phase.rows.size))
            panels = f.at(packed, offset, w.element)
            with f.loop(0, self.g.groups) as groups:
                self._group(phase, depth, panels, groups.index, begin, end)
            offset += self.g.groups * self.panels * depth * self.columns
        return w.finish(
            (self.g.batch, self.images_each), (self.most_rows, self.rows_each)
        )

    def _group(
        self,
        phase: Phase,
        depth: int,
        panels: Value,
        group: Value,
        begin: Value,
        end: Value,
    ) -> None:
        """One group of channels: panel by panel, each for all pixels of the chunk."""
        w, f = self.w, self.f
        whole, rest = divmod(self.results, self.columns)
        size = depth * self.columns
        first = w.move(panels, (group, self.panels * size))
        base = f.binary("mul", group, i64(self.results))

        def panel(number: Value | int, columns: int) -> None:
            at = w.move(first, (number, size))
            shift = i64(number * self.columns) if isinstance(number, int) else (
                f.binary("mul", number, i64(self.columns))
            )  # fmt: skip
            result = f.binary("add", base, shift)
            self._panel(phase, at, group, result, columns, begin, end)

        if whole:
            with f.loop(0, whole) as loop:
                panel(loop.index, self.columns)
        if rest:
            panel(whole, rest)

    def _panel(
        self,
        phase: Phase,
        panel: Value,
        group: Value,
        result: Value,
        columns: int,
        begin: Value,
        end: Value,
    ) -> None:
        """So many results of every pixel of the chunk, in strips of a tile's width."""
        if self.columns == 1:
            self._dots(phase, panel, group, result, begin, end)
            return
        lanes = self.w.lanes
        vectors = -(-columns // lanes)
        width = min(vectors, 2)
        for j in range(0, vectors, width):
            some = min(width, vectors - j)
            count = min(columns - j * lanes, some * lanes)
            v = self.f.at(panel, j * lanes, self.w.element)
            place = self.f.binary("add", result, i64(j * lanes))
            self._strip(phase, v, group, place, some, count, begin, end)

    def _strip(
        self,
        phase: Phase,
        v: Value,
        group: Value,
        result: Value,
        width: int,
        count: int,
        begin: Value,
        end: Value,
    ) -> None:
        w, f, e = self.w, self.f, self.e
        most = w.registers // width
        plan = _pixel_tile(phase.rows.size, phase.columns.size, most)
        _, by_row, by_column, _ = self.strides
        ty, tx = phase.rows, phase.columns
        pixel_row, pixel_column = ty.pace * by_row, tx.pace * by_column
        rows = tuple(
            r * pixel_row + c * pixel_column
            for r in range(plan.height)
            for c in range(plan.width)
        )
        tile = Tile(w.element, w.lanes, rows, width, (None,) * width)
        n_terms = [
            Term(ty.count, ty.advance * by_row, tx.count * self.terms * self.columns),
            Term(tx.count, tx.advance * by_column, self.terms * self.columns),
            Term(self.terms, 1, self.columns),
        ]
        if tx.advance * by_column == self.terms and self.terms > 1:
            n_terms[1:] = [Term(tx.count * self.terms, 1, self.columns)]
        size = len(rows) * width * w.lanes
        scratch = w.scratch(size)
        with f.loop(*self.images) as images:
            image = self.image(phase, images.index, group)
            with f.loop(begin, end, plan.height) as down:
                y = e.least(down.index, i64(ty.size - plan.height))
                with f.loop(0, tx.size, plan.width) as along:
                    x = e.least(along.index, i64(tx.size - plan.width))
                    s = w.move(image, (y, pixel_row), (x, pixel_column))
                    sums = tile.accumulate(f, tile.zeros(), s, v, n_terms)
                    for i, total in enumerate(sums):
                        f.store(total, f.at(scratch, i * w.lanes, w.element))
                    last_y = e.least(f.binary("add", y, i64(plan.height)), end)
                    self.hand_out(
                        phase, plan, scratch, images.index,
                        (down.index, y, last_y), (along.index, x), result, width, count,
                    )  # fmt: skip

    def _dots(
        self,
        phase: Phase,
        filter: Value,
        group: Value,
        result: Value,
        begin: Value,
        end: Value,
    ) -> None:
        """One result of every pixel: vectors run along the terms, then along pixels."""
        w, f, e = self.w, self.f, self.e
        _, by_row, by_column, _ = self.strides
        ty, tx = phase.rows, phase.columns
        pixel_row, pixel_column = ty.pace * by_row, tx.pace * by_column
        count = min(w.lanes, tx.size)
        pixels = [min(j, count - 1) * pixel_column for j in range(w.lanes)]
        lanes = ", ".join(f"i64 {j}" for j in range(w.lanes))
        numbers = Value(vector("i64", w.lanes), f"<{lanes}>")
        with f.loop(*self.images) as images:
            image = self.image(phase, images.index, group)
            with f.loop(begin, end) as down, f.loop(0, tx.size, w.lanes) as along:
                x = e.least(along.index, i64(tx.size - count))
                s = w.move(image, (down.index, pixel_row), (x, pixel_column))
                sums = self._dot_products(phase, s, filter, pixels)
                total = sum_across(f, sums)
                # The last vector begins earlier, and leaves out what there was.
                done = f.splat(f.binary("sub", along.index, x), w.lanes)
                mask = f.compare("icmp sge", numbers, done)
                if count < w.lanes:
                    mask = f.first_lanes(count, w.lanes)
                y = _scaled(f, down.index, ty.step, ty.first)
                first = _scaled(f, x, tx.step, tx.first)
                full = [
                    Position(images.index), Position(y), Position(first, tx.step),
                    Position(result),
                ]  # fmt: skip
                at = [p for p, s in zip(full, self.full, strict=True) if s != 1]
                if self.full[2] == 1:  # then positions have no axis of columns
                    total = f.value(w.element, f"extractelement {total}, i64 0")
                    e.lanes = 1
                with e.masked(mask if e.lanes > 1 else None), e.scope():
                    e.remember(self.node, at, total)
                    e.store_all(w.kernel.roots, lambda r: at)
                e.lanes = w.lanes

    def _dot_products(
        self, phase: Phase, s: Value, v: Value, pixels: Sequence[int]
    ) -> list[Value]:
        """For each pixel, a vector of sums over the terms."""
        w, f = self.w, self.f
        _, by_row, by_column, _ = self.strides
        ty, tx = phase.rows, phase.columns
        taps, run = tx.count, self.terms
        if tx.advance * by_column == self.terms:
            taps, run = 1, tx.count * self.terms
        sums = [Value(w.type, "zeroinitializer")] * len(pixels)
        if not phase.depth(1):
            return sums

        def step(
            s: Value, v: Value, sums: Sequence[Value], mask: Value | None
        ) -> list[Value]:
            weights = w.load(v, mask)
            return [
                f.fma(w.load(f.at(s, p, w.element), mask), weights, total)
                for p, total in zip(pixels, sums, strict=True)
            ]

        with f.loop(0, ty.count, carried=[v, *sums], nonempty=True) as rows:
            v, *sums = rows.carried
            at_row = w.move(s, (rows.index, ty.advance * by_row))
            with f.loop(0, taps, carried=[v, *sums], nonempty=True) as columns:
                v, *sums = columns.carried
                at = w.move(at_row, (columns.index, tx.advance * by_column))
                whole = run - run % w.lanes
                with f.loop(0, whole, w.lanes, sums, nonempty=True) as loop:
                    here = f.at(at, loop.index, w.element)
                    there = f.at(v, loop.index, w.element)
                    loop.carry(step(here, there, loop.carried, None))
                sums = loop.results
                if run % w.lanes:
                    mask = f.first_lanes(run % w.lanes, w.lanes)
                    here = f.at(at, whole, w.element)
                    sums = step(here, f.at(v, whole, w.element), sums, mask)
                columns.carry([f.at(v, run, w.element), *sums])
            rows.carry(columns.results)
        _, *sums = rows.results
        return sums


def _scaled(f: Function, x: Value, by: int, plus: int) -> Value:
    if by != 1:
        x = f.binary("mul", x, i64(by))
    return f.binary("add", x, i64(plus)) if plus else x
