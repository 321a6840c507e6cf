"""Native code for the way back of pooling: outputs added to what their windows saw."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from chainrule.compiler.emit import Function, Module, Value, i64, vector
from chainrule.compiler.emit import number as literal
from chainrule.compiler.emitter import Chunks, Emitter, Position, Slots, llvm_type
from chainrule.compiler.fusion import Kernel
from chainrule.compiler.host import Target
from chainrule.compiler.ir import Node, Size, Spread

__all__ = ["emit_spread"]


def emit_spread(
    module: Module,
    kernel: Kernel,
    target: Target,
    slots: Slots,
    stored: set[Node],
    images: int = 0,
) -> Chunks:
    """Windows one after another, image by image; a vector spans channels.

    Where the windows cut the image into pieces, every element is written once, with
    what is made of it. Else an image is first set to zero, and then added to. With
    ``images``, a chunk has so many of them.
    """
    (node,) = kernel.cores
    assert isinstance(node, Spread)
    f = Function(module, f"cr_{kernel.name}", [("ptr", "ctx"), ("i64", "chunk")])
    e = Emitter(module, "", target, slots, kernel, stored, f)
    e.lanes = target.lanes(llvm_type(node.dtype))
    writer = _Spread(f, e, node)
    g = node.geometry
    rows = each = g.places[0]
    if node.is_partition and not images:
        # Rows of windows share nothing: several chunks an image where it is large.
        each = min(rows, max(1, (1 << 14) // max(g.places[1] * g.channels, 1)))
    blocks = -(-rows // each)
    images = images or 1
    block = f.binary("urem", f.parameters[1], i64(blocks))
    begin = f.binary("mul", block, i64(each))
    end = e.least(f.binary("add", begin, i64(each)), i64(rows))
    first = f.binary("udiv", f.parameters[1], i64(blocks))
    first = f.binary("mul", first, i64(images))
    last = e.least(f.binary("add", first, i64(images)), e.size(g.batch))
    with f.loop(first, last) as image:
        if not node.is_partition:
            writer.clear(image.index)
        writer.windows(image.index, begin, end)
    f.ret()
    module.add_kernel(f)
    return Chunks(((g.batch, images), (rows, each)))


class _Spread:
    def __init__(self, f: Function, e: Emitter, node: Spread) -> None:
        self.f, self.e, self.node = f, e, node
        self.g = node.geometry

    def _kept(self, full: Sequence[Position], shape: Sequence[Size]) -> list[Position]:
        """Without the positions along axes of size 1."""
        return [p for p, size in zip(full, shape, strict=True) if size != 1]

    def clear(self, image: Value) -> None:
        """Zeros in the whole image."""
        f, e = self.f, self.e
        height, width = self.g.image
        with f.loop(0, height) as y, f.loop(0, width) as x:

            def body(channel: Position) -> None:
                zero = literal(vector(llvm_type(self.node.dtype), e.lanes), 0.0)
                full = (Position(image), Position(y.index), Position(x.index), channel)
                e.store(self.node, self._kept(full, self.g.images), zero)

            self._channels(body)

    def _channels(self, body: Callable[[Position], None]) -> None:
        """Vectors of channels, the last one masked."""
        e = self.e
        if self.g.channels == 1:
            lanes, e.lanes = e.lanes, 1
            body(Position(i64(0)))
            e.lanes = lanes
        else:
            e.along(i64(0), i64(self.g.channels), body)

    def windows(self, image: Value, first: Value, last: Value) -> None:
        """All windows of some rows of places."""
        f, g = self.f, self.g
        with f.loop(first, last) as p, f.loop(0, g.places[1]) as q:

            def body(channel: Position) -> None:
                self._window(image, p.index, q.index, channel)

            self._channels(body)

    def _window(self, image: Value, p: Value, q: Value, channel: Position) -> None:
        f, e, g, node = self.f, self.e, self.g, self.node
        w = g.window
        here = (Position(image), Position(p), Position(q), channel)
        dy = e.read(node.access, self._kept(here, g.outputs))
        type = vector(llvm_type(node.dtype), e.lanes)
        if dy.type != type:
            dy = f.splat(dy, e.lanes)
        taps = []
        for i, j in itertools.product(*map(range, w.size)):
            (top, _), (side, _) = w.padding
            y = _place(f, p, w.stride[0], i * w.dilation[0] - top)
            x = _place(f, q, w.stride[1], j * w.dilation[1] - side)
            full = (Position(image), Position(y), Position(x), channel)
            inside = None
            for place, pad, size in (
                (y, w.padding[0], g.image[0]),
                (x, w.padding[1], g.image[1]),
            ):
                if any(v > 0 for v in pad):
                    ok = f.compare("icmp ult", place, i64(size))
                    inside = ok if inside is None else f.binary("and", inside, ok)
            taps.append((self._kept(full, g.images), inside))
        shares = self._shares(dy, taps, type)
        for (at, inside), share in zip(taps, shares, strict=True):
            if node.is_partition:
                with e.scope():
                    e.remember(node, at, share)
                    e.store_all(e.kernel.roots, lambda r, at=at: at)  # type: ignore[misc]
            elif inside is None:
                self._add(at, share)
            else:
                with f.when(inside), e.scope():
                    self._add(at, share)

    def _shares(
        self,
        dy: Value,
        taps: list[tuple[list[Position], Value | None]],
        type: str,
    ) -> list[Value]:
        """What each tap's element receives."""
        f, e, node = self.f, self.e, self.node
        if node.images is None:
            return [dy] * len(taps)
        top: Value | None = None
        wins: list[Value] = []
        never = literal(vector("i1", e.lanes), 0)
        for at, inside in taps:
            if inside is None:
                x = e.read(node.images, at)
            else:
                x = self._read_inside(at, inside, type)
            if top is None:
                top = x
                wins.append(literal(vector("i1", e.lanes), 1))
                continue
            above = f.compare("fcmp ugt", x, top)
            known = f.compare("fcmp ord", top, top)
            wins_now = f.binary("and", above, known)
            top = f.select(wins_now, x, top)
            wins = [f.select(wins_now, never, w) for w in wins]
            wins.append(wins_now)
        zero = literal(type, 0.0)
        return [f.select(w, dy, zero) for w in wins]

    def _read_inside(self, at: list[Position], inside: Value, type: str) -> Value:
        """An element of the images, or -inf outside them."""
        f, e, node = self.f, self.e, self.node
        assert node.images is not None
        name = f.fresh("tap")
        before = f.block
        f.branch(inside, name, f"{name}.end")
        f.label(name)
        with e.scope():
            x = e.read(node.images, at)
        back = f.block
        f.jump(f"{name}.end")
        f.label(f"{name}.end")
        low = literal(type, float("-inf"))
        return f.value(
            type, f"phi {type} [ {low.name}, %{before} ], [ {x.name}, %{back} ]"
        )

    def _add(self, at: list[Position], share: Value) -> None:
        e, f, node = self.e, self.f, self.node
        old = e.load(node, at)
        e.store(node, at, f.binary("fadd", old, share))


def _place(f: Function, p: Value, stride: int, offset: int) -> Value:
    if stride != 1:
        p = f.binary("mul", p, i64(stride))
    return f.binary("add", p, i64(offset)) if offset else p
