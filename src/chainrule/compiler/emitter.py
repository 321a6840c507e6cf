"""Values at positions: what the kernels of all kinds are written with.

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

from chainrule.compiler.emit import Function, Module, Value, i64, lanes_of, vector
from chainrule.compiler.emit import number as literal
from chainrule.compiler.fusion import Kernel, places_use
from chainrule.compiler.host import Target
from chainrule.compiler.ir import (
    Access,
    Alias,
    Blocks,
    Dynamic,
    Index,
    Leaf,
    Map,
    Node,
    Place,
    Reduce,
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

__all__ = [
    "FIRST_SLOT",
    "SLOT_FAULT",
    "SLOT_SCRATCH",
    "SLOT_SCRATCH_BYTES",
    "ZERO",
    "Chunks",
    "Emitter",
    "Position",
    "Slots",
    "is_flat",
    "llvm_type",
    "memory_type",
]

# Slots of the context before the buffers': see ``program``.
SLOT_BATCH, SLOT_FAULT, SLOT_SCRATCH, SLOT_SCRATCH_BYTES, FIRST_SLOT = 0, 3, 6, 7, 8


def llvm_type(dtype: np.dtype[Any]) -> str:
    """The type of an element in a register."""
    return element_name(dtype.name)


def memory_type(dtype: np.dtype[Any]) -> str:
    """The type of an element in memory."""
    return "i8" if dtype.name == "bool" else element_name(dtype.name)


@dataclass(frozen=True)
class Chunks:
    """How many chunks a kernel has: Π ceil(extent / each), and what memory each takes.

    ``scratch_bytes`` are the machine's: a thread's stack may be small.
    """

    terms: tuple[tuple[Size, int], ...] = ()
    scratch_bytes: int = 0

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


def is_flat(e: Emitter, roots: Sequence[Node], ndim: int, outer: int) -> bool:
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
