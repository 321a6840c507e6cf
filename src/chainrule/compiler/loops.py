"""Native code for loops: elementwise values, reductions, running sums, scattering.

An ``Emitter`` writes one kernel. ``value`` evaluates any value at given positions: it
finds it in registers, loads it, or computes it from its operands at the positions that
they are read at. One position of a kernel may span a vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from chainrule.compiler.emit import (
    Function,
    Module,
    Value,
    element_of,
    i64,
    lanes_of,
    vector,
)
from chainrule.compiler.emit import number as literal
from chainrule.compiler.fusion import Kernel, places_use, strides_of
from chainrule.compiler.host import Target
from chainrule.compiler.ir import (
    Access,
    Alias,
    Blocks,
    Dynamic,
    Index,
    Join,
    Leaf,
    Map,
    Node,
    Place,
    Reduce,
    Scan,
    Scatter,
    Size,
    at,
    identity,
    plus,
    product,
    times,
)
from chainrule.compiler.vector_math import convert, native_table
from chainrule.compiler.vector_math import element as element_name
from chainrule.core import scalar

__all__ = ["Chunks", "Emitter", "Position", "Slots", "emit_loops", "llvm_type"]

# Slots of the context before the buffers': see ``program``.
SLOT_BATCH, SLOT_FAULT, FIRST_SLOT = 0, 3, 8

_FLAT_CHUNK = 1 << 14
"""Elements of one chunk of a walk along memory: a few microseconds."""
_ROW_CHUNK = 1 << 11
_SUM_BLOCK = 64
"""Vectors that are summed one after another before they join a sum of sums."""


def llvm_type(dtype: np.dtype[Any]) -> str:
    """The type of an element in a register."""
    return element_name(dtype.name)


def memory_type(dtype: np.dtype[Any]) -> str:
    """The type of an element in memory."""
    return "i8" if dtype.name == "bool" else element_name(dtype.name)


@dataclass(frozen=True)
class Chunks:
    """How many chunks a kernel has: Π ceil(extent / each)."""

    terms: tuple[tuple[Size, int], ...] = ()

    def count(self, n: int) -> int:
        """The number for one batch size."""
        return math.prod(-(-at(extent, n) // each) for extent, each in self.terms)


class Slots:
    """Where in the context the address of each buffer stands."""

    def __init__(self, storage: Callable[[Node], Node]) -> None:
        self.storage = storage
        self.buffers: dict[Node, int] = {}

    def of(self, node: Node) -> int:
        """The slot of what holds the node's values."""
        return self.buffers.setdefault(
            self.storage(node), FIRST_SLOT + len(self.buffers)
        )


@dataclass(frozen=True)
class Position:
    """Where along an axis: ``base`` + ``step``·lane, or a vector of places."""

    base: Value
    step: int = 0
    places: Value | None = None


ZERO = Position(i64(0))


class Emitter:
    """One kernel in the making: ``void name(ptr ctx, i64 chunk)``."""

    def __init__(
        self,
        module: Module,
        name: str,
        target: Target,
        slots: Slots,
        kernel: Kernel,
        stored: set[Node],
        function: Function | None = None,
    ) -> None:
        self.f = function or Function(module, name, [("ptr", "ctx"), ("i64", "chunk")])
        self.module = module
        self.target = target
        self.slots = slots
        self.kernel = kernel
        self.stored = stored
        self.lanes = self._choose_lanes()
        self.mask: Value | None = None
        self._memo: list[dict[Any, Value]] = [{}]
        self._entry: dict[Any, Value] = {}
        self._sums: dict[Value, tuple[tuple[tuple[Value, int], ...], Size]] = {}
        """What positions were made of: multiples of others, and a number."""
        self.own = {*kernel.cores, *kernel.roots}
        self.images = 0
        """If not 0, how many of the first axis a chunk has."""

    def share_of(self, each: int, *sizes: Size) -> int:
        """How many rows a chunk has, each of its images having rows of these sizes."""
        if not self.images:
            return each
        count = product(sizes)
        assert isinstance(count, int)
        return self.images * count

    def _choose_lanes(self) -> int:
        nodes = [*self.kernel.cores, *self.kernel.roots]
        if any(isinstance(n, Reduce) and n.kind.startswith("arg") for n in nodes):
            return 1
        floats = {n.dtype.name for n in nodes if n.dtype.kind == "f"}
        return self.target.lanes("double" if floats == {"float64"} else "float")

    # What stands in the context.

    def size(self, size: Size) -> Value:
        """A size as a native number."""
        if isinstance(size, int):
            return i64(size)
        if size not in self._entry:
            f = self.f
            place = f.at_entry("ptr", f"getelementptr i64, ptr %ctx, i64 {SLOT_BATCH}")
            n = f.at_entry("i64", f"load i64, {place}, align 8")
            if isinstance(size, Blocks):
                more = f.at_entry("i64", f"add {n}, {size.each - 1}")
                count = f.at_entry("i64", f"udiv {more}, {size.each}")
                self._entry[size] = f.at_entry("i64", f"mul {count}, {size.times}")
                return self._entry[size]
            scaled = f.at_entry("i64", f"mul {n}, {size.per_batch}")
            self._entry[size] = f.at_entry("i64", f"add {scaled}, {size.fixed}")
        return self._entry[size]

    def pointer(self, node: Node) -> Value:
        """The address of a node's first element."""
        return self.f.address(self.slots.of(node))

    # Scopes: what is computed in a block is known only there.

    @contextmanager
    def scope(self) -> Iterator[None]:
        """A block of its own."""
        self._memo.append({})
        yield
        self._memo.pop()

    @contextmanager
    def masked(self, mask: Value | None) -> Iterator[None]:
        """Only the lanes of a mask count."""
        before, self.mask = self.mask, mask
        yield
        self.mask = before

    def remember(self, node: Node, positions: Sequence[Position], value: Value) -> None:
        """Keep a value in registers for the rest of this scope."""
        self._memo[-1][_key(node, positions)] = value

    # Values.

    def value(self, node: Node, positions: Sequence[Position]) -> Value:
        """An element, or a vector of elements, of a node."""
        key = _key(node, positions)
        for known in reversed(self._memo):
            if key in known:
                return known[key]
        found = self._evaluate(node, positions)
        self._memo[-1][key] = found
        return found

    def read(self, access: Access, positions: Sequence[Position]) -> Value:
        """What an access finds where its reader stands at these positions."""
        return self.value(access.node, [self._at(p, positions) for p in access.places])

    def hoist(self, access: Access, outer: Sequence[Position], inner: int = 1) -> None:
        """Compute, before a loop over inner axes, what does not depend on them."""
        key = (access, inner, *(p.base.name for p in outer))
        if key in self._memo[-1]:
            return
        self._memo[-1][key] = ZERO.base
        known = len(outer)
        if not any(
            places_use(p, known + a) for p in access.places for a in range(inner)
        ):
            self.read(access, [*outer, *[ZERO] * inner])
        elif isinstance(access.node, Map) and (
            access.node not in self.stored or access.node in self.own
        ):
            for operand in access.node.operands:
                self.hoist(operand.substitute(access.places), outer, inner)

    def _evaluate(self, node: Node, positions: Sequence[Position]) -> Value:
        is_own = node in self.own and isinstance(node, Map)
        if isinstance(node, (Leaf, Alias)) or (node in self.stored and not is_own):
            return self.load(node, positions)
        if not isinstance(node, Map):
            raise AssertionError(f"{node.name} is read before it is there")
        if node.kind == "iota":
            return self._lanes_of(positions[0] if positions else ZERO)
        if node.kind == "dropout":
            return self._dropout(node, positions)
        if node.kind == "place":
            size, wraps = node.setting
            return self._place(node.accesses[0], size, positions, wraps=wraps)
        values = [self.read(a, positions) for a in node.accesses]
        lanes = max((lanes_of(v.type) for v in values), default=1)
        values = [self.f.splat(v, lanes) if lanes_of(v.type) < lanes else v
                  for v in values]  # fmt: skip
        if node.kind == "cast":
            source = node.accesses[0].node.dtype
            return convert(self.f, values[0], source.name, node.dtype.name)
        assert node.expression is not None
        number_dtype = node.dtype
        if node.dtype.name == "bool" and node.accesses:
            number_dtype = node.accesses[0].node.dtype
        type = vector(llvm_type(number_dtype), lanes)
        is_unsigned = number_dtype.kind == "u"
        table = native_table(self.f, number_dtype.name if is_unsigned else type)
        symbols = {f"x{i}": v for i, v in enumerate(values)}
        result = scalar.fold(
            node.expression, table, symbols, lambda v: literal(type, v)
        )
        if node.expression.kind == "constant":
            result = literal(llvm_type(node.dtype), node.expression.value)
        return result

    def _at(self, place: Place, positions: Sequence[Position]) -> Position:
        """A place of the reader's, from where the reader stands."""
        f = self.f
        if isinstance(place, Dynamic):
            return self._looked_up(place, positions)
        if len(place.terms) == 1 and place.terms[0][1] == 1 and place.offset == 0:
            return positions[place.terms[0][0]]
        step, offset = 0, place.offset
        many: dict[Value, int] = {}
        for axis, coefficient in place.terms:
            p = positions[axis]
            step += p.step * coefficient
            if p.places is not None:
                raise AssertionError("an index of an index")
            # In terms of what loops count, so that a flip of a flip is nothing at all.
            parts, before = self._sums.get(p.base, (((p.base, 1),), 0))
            offset = plus(offset, times(before, coefficient))
            for part, count in parts:
                many[part] = many.get(part, 0) + count * coefficient
        terms = tuple((v, c) for v, c in many.items() if c and v != ZERO.base)
        base: Value | None = None
        if offset != 0 or not terms:
            base = self.size(offset)
        for value, coefficient in terms:
            if coefficient != 1:
                value = f.binary("mul", value, i64(coefficient))
            base = value if base is None else f.binary("add", base, value)
        assert base is not None
        self._sums.setdefault(base, (terms, offset))
        return Position(base, step)

    def _looked_up(self, place: Dynamic, positions: Sequence[Position]) -> Position:
        f = self.f
        index = self._place(place.access, place.size, positions)
        lanes = lanes_of(index.type)
        last = f.splat(self.size(place.size), lanes)
        last = f.binary("sub", last, literal(index.type, 1))
        index = f.intrinsic("umin", index, last)
        if lanes == 1:
            return Position(index)
        return Position(i64(0), 0, index)

    def _place(
        self,
        access: Access,
        extent: Size,
        positions: Sequence[Position],
        *,
        wraps: bool = True,
    ) -> Value:
        """An index read from memory, checked; a negative one counts from the end."""
        f = self.f
        source = access.node.dtype
        index = convert(f, self.read(access, positions), source.name, "int64")
        size = f.splat(self.size(extent), lanes_of(index.type))
        if source.kind == "i" and wraps:
            wrapped = f.binary("add", index, size)
            is_negative = f.compare("icmp slt", index, literal(index.type, 0))
            index = f.select(is_negative, wrapped, index)
        self._check(f.compare("icmp uge", index, size))
        return index

    def _check(self, is_bad: Value) -> None:
        """Set the fault flag where an index is out of range."""
        f = self.f
        lanes = lanes_of(is_bad.type)
        if lanes > 1:
            if self.mask is not None:
                is_bad = f.binary("and", is_bad, self.mask)
            bits = f.cast("bitcast", is_bad, f"i{lanes}")
            is_bad = f.compare("icmp ne", bits, Value(bits.type, "0"))
        with f.when(is_bad):
            slot = f.at(Value("ptr", "%ctx"), SLOT_FAULT, "i64")
            f.store(i64(1), slot)

    def _lanes_of(self, position: Position) -> Value:
        """A position as a number, or as a vector of numbers."""
        if position.places is not None:
            return position.places
        if not position.step:
            return position.base
        f = self.f
        base = f.splat(position.base, self.lanes)
        if self.lanes == 1:
            return base
        steps = ", ".join(f"i64 {i * position.step}" for i in range(self.lanes))
        return f.binary("add", base, Value(base.type, f"<{steps}>"))

    def _dropout(self, node: Map, positions: Sequence[Position]) -> Value:
        """0 or the scale, by a random word that depends on the place alone."""
        f = self.f
        threshold, scale = node.setting
        whole = Leaf(node.name, node.shape, node.dtype)  # as it lies without margins
        flat = self._lanes_of(self._address(whole, positions))
        key0, key1, step = (self.read(a, ()) for a in node.accesses)
        key0 = f.cast("zext", key0, "i64") if key0.type != "i64" else key0
        key1 = f.cast("zext", key1, "i64") if key1.type != "i64" else key1
        if step.type != "i64":
            step = f.cast("sext", step, "i64")
        words = philox(f, flat, step, key0, key1)
        limit = literal(words.type, threshold)
        kept = f.compare("icmp uge", words, limit)
        type = vector(llvm_type(node.dtype), lanes_of(words.type))
        return f.select(kept, literal(type, scale), literal(type, 0.0))

    # Memory.

    def _address(self, node: Node, positions: Sequence[Position]) -> Position:
        """How many elements after its first a node's element lies."""
        f = self.f
        base: Value | None = i64(node.start) if node.start else None
        step: int = 0
        places: Value | None = None

        def join(total: Value | None, term: Value) -> Value:
            return term if total is None else f.binary("add", total, term)

        for position, stride in zip(positions, node.strides, strict=True):
            if position.places is not None:
                many = f.splat(self.size(stride), lanes_of(position.places.type))
                places = join(places, f.binary("mul", position.places, many))
                continue
            if position.step and self.lanes > 1:
                if not isinstance(stride, int):
                    lanes = self._lanes_of(position)
                    many = f.splat(self.size(stride), lanes_of(lanes.type))
                    places = join(places, f.binary("mul", lanes, many))
                    continue
                step += position.step * stride
            if position.base.name != "0":
                scaled = position.base
                if stride != 1:
                    scaled = f.binary("mul", scaled, self.size(stride))
                base = join(base, scaled)
        if places is None:
            return Position(base or i64(0), step)
        if base is not None:
            places = f.binary("add", places, f.splat(base, lanes_of(places.type)))
        if step:
            places = f.binary("add", places, self._lanes_of(Position(i64(0), step)))
        return Position(i64(0), 0, places)

    def load(self, node: Node, positions: Sequence[Position]) -> Value:
        """A node's element from memory."""
        f = self.f
        pointer = self.pointer(node)
        address = self._address(node, positions)
        element = memory_type(node.dtype)
        lanes = self.lanes
        if address.places is not None or (address.step not in (0, 1) and lanes > 1):
            where = self._lanes_of(address)
            pointers = f.value(
                vector("ptr", lanes_of(where.type)),
                f"getelementptr {element}, {pointer}, {where}",
            )
            type = vector(element, lanes_of(where.type))
            found = f.gather(pointers, self.mask, type)
        elif address.step and lanes > 1:
            place = f.at(pointer, address.base, element)
            type = vector(element, lanes)
            if self.mask is None:
                found = f.load(place, type)
            else:
                found = f.masked_load(place, self.mask, type)
        else:
            found = f.load(f.at(pointer, address.base, element), element)
        if node.dtype.name == "bool":
            return f.compare("icmp ne", found, literal(found.type, 0))
        return found

    def store(self, node: Node, positions: Sequence[Position], value: Value) -> None:
        """Write a node's element to memory."""
        f = self.f
        pointer = self.pointer(node)
        element = memory_type(node.dtype)
        address = self._address(node, positions)
        is_vector = bool(address.step) or address.places is not None
        lanes = self.lanes if is_vector else 1
        if lanes_of(value.type) < lanes:
            value = f.splat(value, lanes)
        if node.dtype.name == "bool":
            value = f.cast("zext", value, vector("i8", lanes))
        if lanes == 1:
            f.store(value, f.at(pointer, address.base, element))
        elif address.places is None and address.step == 1:
            place = f.at(pointer, address.base, element)
            if self.mask is None:
                f.store(value, place)
            else:
                f.masked_store(value, place, self.mask)
        else:
            where = self._lanes_of(address)
            pointers = f.value(
                vector("ptr", lanes), f"getelementptr {element}, {pointer}, {where}"
            )
            f.scatter(value, pointers, self.mask)

    def store_all(
        self, roots: Sequence[Node], positions: Callable[[Node], Sequence[Position]]
    ) -> None:
        """Compute all of some values, then write them: none is read after that."""
        values = [self.value(r, positions(r)) for r in roots]
        for root, value in zip(roots, values, strict=True):
            self.store(root, positions(root), value)

    # Loops.

    def least(self, x: Value, y: Value) -> Value:
        """The smaller of two sizes."""
        return self.f.call("llvm.smin.i64", "i64", x, y)

    def decode(self, row: Value, shape: Sequence[Size]) -> list[Position]:
        """The positions of which a row-major walk makes number ``row``."""
        f = self.f
        if not shape:
            return []
        found: list[Position] = []
        for size in reversed(shape[1:]):
            extent = self.size(size)
            found.append(Position(f.binary("urem", row, extent)))
            row = f.binary("udiv", row, extent)
        return [Position(row), *reversed(found)]

    def along(self, begin: Value, end: Value, body: Callable[[Position], None]) -> None:
        """Vectors from ``begin`` to ``end``: whole ones, then what is left over."""
        f = self.f
        if self.lanes == 1:
            with f.loop(begin, end) as loop, self.scope():
                body(Position(loop.index, 1))
            return
        count = f.binary("sub", end, begin)
        rest = f.binary("and", count, i64(self.lanes - 1))
        whole = f.binary("sub", end, rest)
        with f.loop(begin, whole, self.lanes) as loop, self.scope():
            body(Position(loop.index, 1))
        with f.when(f.compare("icmp sgt", rest, i64(0))):
            mask = f.first_lanes(rest, self.lanes)
            with self.masked(mask), self.scope():
                body(Position(whole, 1))


def _key(node: Node, positions: Sequence[Position]) -> Any:
    return (node, *((p.base.name, p.step, p.places) for p in positions))


def emit_loops(
    module: Module,
    kernel: Kernel,
    target: Target,
    slots: Slots,
    stored: set[Node],
    images: int = 0,
) -> Chunks:
    """Add the kernel's function to the module; how many chunks it has.

    With ``images``, a chunk goes over so many of the first axis.
    """
    emitter = Emitter(module, f"cr_{kernel.name}", target, slots, kernel, stored)
    writer = {
        "map": _emit_map,
        "rows": _emit_rows,
        "columns": _emit_columns,
        "join": _emit_join,
        "scan": _emit_scan,
        "scatter": _emit_scatter,
    }[kernel.kind]
    emitter.images = images
    chunks = writer(emitter)
    emitter.f.ret()
    module.add_kernel(emitter.f)
    return chunks


# -------------------------------------------------------------------- elementwise


def _emit_map(e: Emitter) -> Chunks:
    f, shape = e.f, e.kernel.shape
    chunk = f.parameters[1]
    if not shape:
        e.store_all(e.kernel.roots, lambda r: ())
        return Chunks()
    if len(shape) == 1 or _is_flat(e, e.kernel.roots, len(shape), 0):
        total = product(shape)
        each = e.share_of(_FLAT_CHUNK, *shape[1:])
        begin = f.binary("mul", chunk, i64(each))
        end = e.least(f.binary("add", begin, i64(each)), e.size(total))
        leading = [ZERO] * (len(shape) - 1)
        for root in e.kernel.roots:
            for access in root.operands:
                e.hoist(access, (), len(shape))

        def body(position: Position) -> None:
            e.store_all(e.kernel.roots, lambda r: [*leading, position])

        e.along(begin, end, body)
        return Chunks(((total, each),))
    rows, inner = product(shape[:-1]), shape[-1]
    each = max(1, _FLAT_CHUNK // max(inner if isinstance(inner, int) else 256, 1))
    each = e.share_of(each, *shape[1:-1])
    first = f.binary("mul", chunk, i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))
    if isinstance(inner, int) and inner <= e.lanes and _reads_across(e):

        def abreast(position: Position) -> None:
            for j in range(inner):
                where = [position, Position(i64(j))]
                e.store_all(e.kernel.roots, lambda r, where=where: where)  # type: ignore

        e.along(first, last, abreast)
        return Chunks(((rows, each),))
    with f.loop(first, last) as loop, e.scope():
        outer = e.decode(loop.index, shape[:-1])
        for root in e.kernel.roots:
            for access in root.operands:
                e.hoist(access, outer)

        def along_row(position: Position) -> None:
            e.store_all(e.kernel.roots, lambda r: [*outer, position])

        e.along(i64(0), e.size(inner), along_row)
    return Chunks(((rows, each),))


def _reads_across(e: Emitter) -> bool:
    """Whether a value of two axes is made of one that lies the other way round."""
    if len(e.kernel.shape) != 2 or e.lanes == 1:
        return False
    stack = [access for root in e.kernel.roots for access in root.operands]
    seen: set[Access] = set()
    while stack:
        access = stack.pop()
        if access in seen:
            continue
        seen.add(access)
        node = access.node
        if isinstance(node, Map) and (node not in e.stored or node in e.own):
            stack += [o.substitute(access.places) for o in node.operands]
        elif (strides_of(access, 2) or [0])[0] == 1:
            return True
    return False


def _is_flat(e: Emitter, roots: Sequence[Node], ndim: int, outer: int) -> bool:
    """Whether axes from ``outer`` on can be walked as one, along memory.

    They can where everything read along them is read at the reader's own position.
    """
    whole = identity(ndim)

    @cache
    def is_fine(access: Access, shape: tuple[Size, ...]) -> bool:
        node = access.node
        if any(isinstance(p, Dynamic) for p in access.places):
            return False
        if all(
            isinstance(p, Index) and all(a < outer for a, _ in p.terms)
            for p in access.places
        ):
            return (
                not isinstance(node, Map)
                or node in e.stored
                or outer > 0
                or (not node.shape)
            )
        if access.places != whole or node.shape != shape or node.margins:
            return False
        if isinstance(node, Map) and (node not in e.stored or node in e.own):
            if node.kind == "iota":
                return False
            return all(is_fine(a, shape) for a in node.accesses)
        return True

    def start(node: Node) -> bool:
        if node.margins:
            return False
        if isinstance(node, Reduce):
            return is_fine(node.access, (*node.shape, *node.extents))
        assert isinstance(node, Map)
        return all(is_fine(a, node.shape) for a in node.accesses)

    return all(start(r) for r in roots)


# --------------------------------------------------------------------- reductions

_IDENTITY = {"add": 0.0, "maximum": -np.inf, "minimum": np.inf}


def _neutral(kind: str, dtype: np.dtype[Any], type: str) -> Value:
    if dtype.kind == "f" or kind == "add":
        return literal(type, _IDENTITY[kind])
    if dtype.name == "bool":
        return literal(type, kind == "minimum")
    limits = np.iinfo(dtype)
    return literal(type, limits.min if kind == "maximum" else limits.max)


def _combine(e: Emitter, kind: str, x: Value, y: Value, dtype: np.dtype[Any]) -> Value:
    if dtype.name == "bool":
        return e.f.binary("or" if kind == "maximum" else "and", x, y)
    if dtype.kind == "u" and kind != "add":
        return e.f.intrinsic("umax" if kind == "maximum" else "umin", x, y)
    table = native_table(e.f, x.type)
    return table[kind](x, y)


def _across(e: Emitter, kind: str, x: Value, dtype: np.dtype[Any]) -> Value:
    """All lanes of a vector folded into one, by halves."""
    f = e.f
    lanes = lanes_of(x.type)
    element = element_of(x.type)
    while lanes > 1:
        half = lanes // 2
        low = ", ".join(f"i32 {i}" for i in range(half))
        high = ", ".join(f"i32 {i + half}" for i in range(half))
        wide, type = x.type, vector(element, half)
        if half == 1:
            a = f.value(element, f"extractelement {x}, i32 0")
            b = f.value(element, f"extractelement {x}, i32 1")
        else:
            pick = f"shufflevector {x}, {wide} poison, <{half} x i32>"
            a = f.value(type, f"{pick} <{low}>")
            b = f.value(type, f"{pick} <{high}>")
        x = _combine(e, kind, a, b, dtype)
        lanes = half
    return x


def _levels(e: Emitter) -> tuple[list[list[Reduce]], dict[Node, int]]:
    """Reductions in the order in which they need one another; each root's level."""
    level: dict[Node, int] = {}

    @cache
    def needed(access: Access) -> int:
        node = access.node
        if node in level and isinstance(node, Reduce):
            return level[node]
        if not isinstance(node, Map) or (node in e.stored and node not in e.own):
            return 0
        inner = [needed(a) for a in node.accesses]
        inner += [needed(p.access) for p in access.places if isinstance(p, Dynamic)]
        return max(inner, default=0)

    stages: list[list[Reduce]] = []
    for core in e.kernel.cores:
        assert isinstance(core, Reduce)
        level[core] = needed(core.access) + 1
        while len(stages) < level[core]:
            stages.append([])
        stages[level[core] - 1].append(core)
    roots: dict[Node, int] = {}
    for root in e.kernel.roots:
        if isinstance(root, Reduce):
            roots[root] = level[root]
        else:
            roots[root] = max((needed(a) for a in root.operands), default=0)
    return stages, roots


def _emit_rows(e: Emitter) -> Chunks:
    f, kernel = e.f, e.kernel
    rows, inner = product(kernel.shape), kernel.inner
    stages, level = _levels(e)
    ndim = len(kernel.shape) + len(inner)
    outer_ndim = len(kernel.shape)
    full = [
        r for r in kernel.roots if len(r.shape) == ndim and not isinstance(r, Reduce)
    ]
    row_roots = [r for r in kernel.roots if r not in full]
    if len(inner) > 1 and _is_flat(e, [*kernel.cores, *full], ndim, outer_ndim):
        walk: list[Size] = [product(inner)]
        padding = [ZERO] * (len(inner) - 1)
    else:
        walk, padding = list(inner), []
    work = product(walk)
    each = max(1, _ROW_CHUNK // max(work if isinstance(work, int) else 256, 16))
    each = e.share_of(each, *kernel.shape[1:])
    first = f.binary("mul", f.parameters[1], i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))
    is_short = len(walk) == 1 and isinstance(walk[0], int) and 0 < walk[0] <= e.lanes
    if is_short and _are_abreast(e, kernel.shape):
        inside = [[*padding, Position(i64(j))] for j in range(int(walk[0]))]  # type: ignore[arg-type]
        e.along(first, last, lambda p: _rows_abreast(e, p, inside))
        return Chunks(((rows, each),))

    with f.loop(first, last) as loop, e.scope():
        outer = e.decode(loop.index, kernel.shape)
        for stage in range(len(stages) + 1):
            cores = stages[stage] if stage < len(stages) else []
            now = [r for r in full if level[r] == stage]
            if is_short:
                _short_row(e, outer, padding, cores, now, int(walk[0]))  # type: ignore
            elif cores or now:
                _row_stage(e, outer, padding, walk, cores, now)
        _store_rows(e, row_roots, outer)
    return Chunks(((rows, each),))


def _are_abreast(e: Emitter, shape: Sequence[Size]) -> bool:
    """Whether there are enough short rows to fill a vector with one element of each."""
    if len(shape) != 1 or e.lanes == 1:
        return False
    return not isinstance(shape[0], int) or shape[0] >= e.lanes


def _rows_abreast(e: Emitter, row: Position, inside: Sequence[list[Position]]) -> None:
    """As many short rows as a vector has lanes: nothing is summed across its lanes."""
    stages, level = _levels(e)
    ndim = len(e.kernel.shape) + len(e.kernel.inner)

    def places(root: Node) -> list[list[Position]]:
        is_full = len(root.shape) == ndim and not isinstance(root, Reduce)
        return [[row, *c] for c in inside] if is_full else [[row]]

    values: list[tuple[Node, list[Position], Value]] = []
    for stage in range(len(stages) + 1):
        for core in stages[stage] if stage < len(stages) else []:
            total: Value | None = None
            for column in inside:
                x = e.read(core.access, [row, *column])
                x = e.f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
                if total is not None:
                    x = _combine(e, core.kind, total, x, core.dtype)
                total = x
            assert total is not None
            e.remember(core, [row], total)
        now = [r for r in e.kernel.roots if level[r] == stage]
        values += [(r, p, e.value(r, p)) for r in now for p in places(r)]
    for root, where, value in values:
        e.store(root, where, value)


def _store_rows(e: Emitter, roots: Sequence[Node], outer: list[Position]) -> None:
    with e.masked(None):
        e.store_all(roots, lambda r: outer)


def _short_row(
    e: Emitter,
    outer: list[Position],
    padding: list[Position],
    cores: Sequence[Reduce],
    roots: Sequence[Node],
    count: int,
) -> None:
    """A row that one vector holds: everything stays in registers."""
    f = e.f
    position = Position(i64(0), 1 if e.lanes > 1 else 0)
    if e.lanes == 1 and count > 1:
        _row_stage(e, outer, padding, [count], cores, roots)
        return
    mask = f.first_lanes(count, e.lanes) if count < e.lanes else None
    where = [*outer, *padding, position]
    with e.masked(mask):
        for core in cores:
            x = e.read(core.access, where)
            x = f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
            if mask is not None:
                neutral = _neutral(core.kind, core.dtype, x.type)
                x = f.select(mask, x, neutral)
            e.remember(core, outer, _across(e, core.kind, x, core.dtype))
        e.store_all(roots, lambda r: where)


def _row_stage(
    e: Emitter,
    outer: list[Position],
    padding: list[Position],
    walk: Sequence[Size],
    cores: Sequence[Reduce],
    roots: Sequence[Node],
) -> None:
    """One pass over a row: some reductions, and some values to store."""
    f = e.f
    if cores and cores[0].kind.startswith("arg"):
        for core in cores:
            _arg_extremum(e, outer, walk, core)
        if roots:
            _row_stage(e, outer, padding, walk, [], roots)
        return
    for node in (*cores, *roots):
        for access in node.operands:
            e.hoist(access, outer, len(padding) + len(walk))
    types = [vector(llvm_type(c.dtype), e.lanes) for c in cores]
    start = [_neutral(c.kind, c.dtype, t) for c, t in zip(cores, types, strict=True)]

    def step(where: list[Position], totals: Sequence[Value]) -> list[Value]:
        following = []
        with e.scope():
            for core, total in zip(cores, totals, strict=True):
                x = e.read(core.access, where)
                x = f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
                if e.mask is not None:
                    x = f.select(e.mask, x, _neutral(core.kind, core.dtype, x.type))
                following.append(_combine(e, core.kind, total, x, core.dtype))
            e.store_all(roots, lambda r: where)
        return following

    def nest(
        sizes: Sequence[Size], prefix: list[Position], totals: list[Value]
    ) -> list[Value]:
        if len(sizes) > 1:
            with f.loop(0, e.size(sizes[0]), carried=totals) as loop:
                p = Position(loop.index)
                loop.carry(nest(sizes[1:], [*prefix, p], loop.carried))
            return loop.results
        return _blocked(e, sizes[0], totals, cores, start,
                        lambda p, t: step([*prefix, p], t))  # fmt: skip

    totals = nest(walk, [*outer, *padding], start)
    for core, total in zip(cores, totals, strict=True):
        e.remember(core, outer, _across(e, core.kind, total, core.dtype))


def _blocked(
    e: Emitter,
    size: Size,
    totals: list[Value],
    cores: Sequence[Reduce],
    start: list[Value],
    step: Callable[[Position, Sequence[Value]], list[Value]],
) -> list[Value]:
    """A walk along one axis in vectors; long sums are sums of sums of blocks."""
    f, lanes = e.f, e.lanes
    block = _SUM_BLOCK * lanes
    is_long = not isinstance(size, int) or size > 2 * block
    end = e.size(size)
    rest = f.binary("urem", end, i64(lanes)) if lanes > 1 else i64(0)
    whole = f.binary("sub", end, rest)
    if is_long and cores:
        with f.loop(0, whole, block, totals) as blocks:
            stop = e.least(f.binary("add", blocks.index, i64(block)), whole)
            with f.loop(blocks.index, stop, lanes, start) as loop:
                loop.carry(step(Position(loop.index, 1), loop.carried))
            joined = [
                _combine(e, c.kind, total, part, c.dtype)
                for c, total, part in zip(
                    cores, blocks.carried, loop.results, strict=True
                )
            ]
            blocks.carry(joined)
        totals = blocks.results
    else:
        with f.loop(0, whole, lanes, totals) as loop:
            loop.carry(step(Position(loop.index, 1), loop.carried))
        totals = loop.results
    if lanes == 1 or (isinstance(size, int) and size % lanes == 0):
        return totals
    # The vector that is not whole is masked; where it is empty, it changes nothing.
    mask = f.first_lanes(rest, lanes)
    with e.masked(mask):
        return step(Position(whole, 1), totals)


def _arg_extremum(
    e: Emitter, outer: list[Position], walk: Sequence[Size], core: Reduce
) -> None:
    """The place of the first largest (or smallest) element; NaN counts as such."""
    f = e.f
    dtype = core.access.node.dtype
    (size,) = walk
    with e.scope():
        best = e.read(core.access, [*outer, Position(i64(0))])
    with f.loop(1, e.size(size), carried=[best, i64(0)]) as loop, e.scope():
        x = e.read(core.access, [*outer, Position(loop.index)])
        top, place = loop.carried
        is_largest = core.kind == "argmax"
        if dtype.kind == "f":
            # "not (x <= top)" holds for NaN as well; a NaN that leads stays.
            order = "fcmp ugt" if is_largest else "fcmp ult"
            better = f.compare(order, x, top)
            leads = f.compare("fcmp ord", top, top)
            better = f.binary("and", better, leads)
        else:
            sign = "s" if dtype.kind == "i" else "u"
            order = f"icmp {sign}gt" if is_largest else f"icmp {sign}lt"
            better = f.compare(order, x, top)
        loop.carry([f.select(better, x, top), f.select(better, loop.index, place)])
    e.remember(core, outer, loop.results[1])


_COLUMN_CHUNK = 1 << 15
_USUAL_DEPTH, _USUAL_BLOCKS = 128, 8  # of sums over a batch, or over blocks of it
_COLUMNS = 4  # vectors of columns that one walk sums up


def _emit_columns(e: Emitter) -> Chunks:
    """Sums across rows: a few vectors of columns, summed from top to bottom."""
    f, kernel = e.f, e.kernel
    *outer_shape, width = kernel.shape
    stages, _ = _levels(e)
    count = _COLUMNS
    if isinstance(width, int):
        count = max(1, min(count, -(-width // e.lanes)))
    columns = count * e.lanes
    blocks = f.binary(
        "udiv", f.binary("add", e.size(width), i64(columns - 1)), i64(columns)
    )
    rows = product(outer_shape)
    if not e.images:
        # A few blocks of columns are one chunk, where the sums are short.
        inner = product(kernel.inner)
        depth = inner if isinstance(inner, int) else _USUAL_DEPTH
        depth = _USUAL_BLOCKS if isinstance(inner, Blocks) else depth
        each = max(1, _COLUMN_CHUNK // (columns * max(depth, 1)))
        each = each if isinstance(width, int) else 1
        count_all = f.binary("mul", blocks, e.size(rows))
        begin = f.binary("mul", f.parameters[1], i64(each))
        end = e.least(f.binary("add", begin, i64(each)), count_all)
        with f.loop(begin, end) as walk, e.scope():
            row = f.binary("udiv", walk.index, blocks)
            block = f.binary("urem", walk.index, blocks)
            _column_block(e, stages, outer_shape, width, count, row, block)
        if not isinstance(width, int):
            return Chunks(((width, columns), (rows, 1)))
        return Chunks(((times(rows, -(-width // columns)), each),))
    each = e.share_of(1, *outer_shape[1:])
    first = f.binary("mul", f.parameters[1], i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))
    with f.loop(first, last) as walk, f.loop(0, blocks) as part, e.scope():
        _column_block(e, stages, outer_shape, width, count, walk.index, part.index)
    return Chunks(((rows, each),))


def _column_block(
    e: Emitter,
    stages: list[list[Reduce]],
    outer_shape: Sequence[Size],
    width: Size,
    count: int,
    row: Value,
    block: Value,
) -> None:
    """So many vectors of columns, from top to bottom."""
    f, kernel = e.f, e.kernel
    columns = count * e.lanes
    begin = f.binary("mul", block, i64(columns))
    outer = e.decode(row, outer_shape)
    is_whole = isinstance(width, int) and width % columns == 0
    left = f.binary("sub", e.size(width), begin)
    strips: list[tuple[list[Position], Value | None]] = []
    for j in range(count):
        base = f.binary("add", begin, i64(j * e.lanes))
        rest = f.binary("sub", left, i64(j * e.lanes))
        mask = None if is_whole or e.lanes == 1 else f.first_lanes(rest, e.lanes)
        strips.append(([*outer, Position(base, 1)], mask))
    for cores in stages:
        for core in cores:
            for where, mask in strips:
                with e.masked(mask):
                    e.hoist(core.access, where, len(core.extents))
        types = [vector(llvm_type(c.dtype), e.lanes) for c in cores for _ in strips]
        kinds = [c for c in cores for _ in strips]
        start = [
            _neutral(c.kind, c.dtype, t) for c, t in zip(kinds, types, strict=True)
        ]
        totals = _summed(e, cores, strips, list(kernel.inner), [], start, start)
        each = iter(totals)
        for core in cores:
            for where, _ in strips:
                e.remember(core, where, next(each))
    for where, mask in strips:
        if e.lanes == 1 and not is_whole:  # masks are for vectors
            some = f.compare("icmp slt", where[-1].base, e.size(width))
            with f.when(some), e.scope():
                e.store_all(kernel.roots, lambda r, where=where: where)  # type: ignore
        else:
            with e.masked(mask):
                e.store_all(kernel.roots, lambda r, where=where: where)  # type: ignore


def _summed(
    e: Emitter,
    cores: Sequence[Reduce],
    strips: Sequence[tuple[list[Position], Value | None]],
    sizes: list[Size],
    inner: list[Position],
    totals: Sequence[Value],
    start: Sequence[Value],
) -> list[Value]:
    """Vectors of columns summed; long sums are sums of sums of blocks."""
    f = e.f
    kinds = [c for c in cores for _ in strips]
    if len(sizes) > 1:
        with f.loop(0, e.size(sizes[0]), carried=totals) as loop, e.scope():
            further = [*inner, Position(loop.index)]
            loop.carry(
                _summed(e, cores, strips, sizes[1:], further, loop.carried, start)
            )
        return loop.results
    end = e.size(sizes[0])
    is_short = isinstance(sizes[0], int) and sizes[0] <= _SUM_BLOCK

    def block(first: Value, stop: Value, sums: Sequence[Value]) -> list[Value]:
        with f.loop(first, stop, 1, start) as loop, e.scope():
            following = []
            values = iter(loop.carried)
            for core in cores:
                for where, mask in strips:
                    with e.masked(mask):
                        x = e.read(core.access, [*where, *inner, Position(loop.index)])
                    x = f.splat(x, e.lanes) if lanes_of(x.type) < e.lanes else x
                    following.append(
                        _combine(e, core.kind, next(values), x, core.dtype)
                    )
            loop.carry(following)
        return [
            _combine(e, c.kind, total, part, c.dtype)
            for c, total, part in zip(kinds, sums, loop.results, strict=True)
        ]

    if is_short:
        return block(i64(0), end, totals)
    with f.loop(0, end, _SUM_BLOCK, totals) as blocks:
        stop = e.least(f.binary("add", blocks.index, i64(_SUM_BLOCK)), end)
        blocks.carry(block(blocks.index, stop, blocks.carried))
    return blocks.results


# ------------------------------------------------------------ one after another


def _emit_join(e: Emitter) -> Chunks:
    """Parts of each row, one after another."""
    f = e.f
    (node,) = e.kernel.cores
    assert isinstance(node, Join)
    outer, inner = node.shape[: node.axis], node.shape[node.axis + 1 :]
    rows, row = product(outer), product(node.shape[node.axis :])
    each = max(1, _FLAT_CHUNK // max(row if isinstance(row, int) else 256, 1))
    first = f.binary("mul", f.parameters[1], i64(each))
    last = e.least(f.binary("add", first, i64(each)), e.size(rows))

    def part(where: list[Position], start: Size, size: Size, access: Access) -> None:
        def moved(p: Position) -> Position:
            if start == 0:
                return p
            return Position(f.binary("add", p.base, e.size(start)), p.step)

        def nest(sizes: Sequence[Size], prefix: list[Position]) -> None:
            if len(sizes) > 1:
                with f.loop(0, e.size(sizes[0])) as loop, e.scope():
                    nest(sizes[1:], [*prefix, Position(loop.index)])
                return

            def body(position: Position) -> None:
                own = [*prefix, position]
                x = e.read(access, [*where, *own])
                e.store(node, [*where, moved(own[0]), *own[1:]], x)

            e.along(i64(0), e.size(sizes[0]), body)

        nest([size, *inner], [])

    with f.loop(first, last) as loop, e.scope():
        where = e.decode(loop.index, outer)
        start: Size = 0
        for access, size in zip(node.accesses, node.sizes, strict=True):
            part(where, start, size, access)
            start = plus(start, size)
    return Chunks(((rows, each),))


def _emit_scan(e: Emitter) -> Chunks:
    """Running sums: along one axis one after another, other axes side by side."""
    f = e.f
    (node,) = e.kernel.cores
    assert isinstance(node, Scan)
    e.lanes = 1
    others = [s for a, s in enumerate(node.shape) if a != node.axis]
    rows = product(others)
    first = f.binary("mul", f.parameters[1], i64(16))
    last = e.least(f.binary("add", first, i64(16)), e.size(rows))
    # -0 leaves every number as it is, -0 too.
    start = literal(llvm_type(node.dtype), -0.0 if node.dtype.kind == "f" else 0)
    with f.loop(first, last) as outer, e.scope():
        fixed = e.decode(outer.index, others)
        length = e.size(node.shape[node.axis])
        with f.loop(0, length, carried=[start]) as loop, e.scope():
            where = list(fixed)
            where.insert(node.axis, Position(loop.index))
            x = e.read(node.access, where)
            total = _combine(e, "add", loop.carried[0], x, node.dtype)
            e.store(node, where, total)
            loop.carry([total])
    return Chunks(((rows, 16),))


def _emit_scatter(e: Emitter) -> Chunks:
    """Zeros, then one addition after another, so that repeated places add up."""
    f = e.f
    (node,) = e.kernel.cores
    assert isinstance(node, Scatter)
    zero = literal(llvm_type(node.dtype), 0)
    flat = [ZERO] * max(len(node.shape) - 1, 0)
    if node.shape:
        e.along(
            i64(0), e.size(product(node.shape)),
            lambda p: e.store(node, [*flat, p], zero),
        )  # fmt: skip
    else:
        e.store(node, (), zero)
    e.lanes = 1
    shape = node.access.node.shape
    with f.loop(0, e.size(product(shape))) as loop, e.scope():
        where = e.decode(loop.index, shape)
        x = e.read(node.access, where)
        places = [e._at(p, where) for p in node.places]
        before = e.load(node, places)
        e.store(node, places, _combine(e, "add", before, x, node.dtype))
    return Chunks()


# -------------------------------------------------------------------- random words


def philox(f: Function, places: Value, step: Value, key0: Value, key1: Value) -> Value:
    """Word number ``places`` of a stream: Philox4x32-10, as ``core.rng`` has it."""
    lanes = lanes_of(places.type)
    wide = places.type

    def number(value: int) -> Value:
        return literal(wide, value)

    low = number(0xFFFFFFFF)
    block = f.binary("lshr", places, number(2))
    many = f.splat(step, lanes)
    c0 = f.binary("and", block, low)
    c1 = f.binary("lshr", block, number(32))
    c2 = f.binary("and", many, low)
    c3 = f.binary("lshr", many, number(32))
    k0, k1 = f.splat(key0, lanes), f.splat(key1, lanes)
    for _ in range(10):
        p0 = f.binary("mul", c0, number(0xD2511F53))
        p1 = f.binary("mul", c2, number(0xCD9E8D57))
        c0 = f.binary("xor", f.binary("lshr", p1, number(32)), c1)
        c0 = f.binary("xor", c0, k0)
        c2 = f.binary("xor", f.binary("lshr", p0, number(32)), c3)
        c2 = f.binary("xor", c2, k1)
        c1, c3 = f.binary("and", p1, low), f.binary("and", p0, low)
        k0 = f.binary("and", f.binary("add", k0, number(0x9E3779B9)), low)
        k1 = f.binary("and", f.binary("add", k1, number(0xBB67AE85)), low)
    word = f.binary("and", places, number(3))
    result = c0
    for i, c in enumerate((c1, c2, c3), 1):
        result = f.select(f.compare("icmp eq", word, number(i)), c, result)
    return f.cast("trunc", result, vector("i32", lanes))
