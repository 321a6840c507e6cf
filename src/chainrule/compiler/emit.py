"""LLVM IR as text, written one instruction at a time.

A ``Function`` collects the instructions of one native function. Values are pairs of
an LLVM type and a name. Text is several times quicker to make than IR objects, and it
is what a reader sees when asking for the ``llvm`` pass.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

__all__ = ["Function", "Loop", "Module", "Value", "i64", "lanes_of", "number", "vector"]


class Value(NamedTuple):
    """An LLVM value: its type and how the text names it."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


def i64(value: int) -> Value:
    """A whole number, as sizes, counts and places are."""
    return Value("i64", str(value))


def vector(element: str, lanes: int) -> str:
    """The LLVM type of ``lanes`` elements; one lane is the element itself."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


def lanes_of(type: str) -> int:
    """How many elements a value of this type has."""
    return int(type[1:].split(" ", 1)[0]) if type.startswith("<") else 1


def element_of(type: str) -> str:
    """The type of one element of a value of this type."""
    return type[1:-1].split(" x ", 1)[1] if type.startswith("<") else type


def number(type: str, value: float) -> Value:
    """A constant; of a vector type, in every lane."""
    element = element_of(type)
    if element == "float":
        bits = struct.unpack("<Q", struct.pack("<d", float(np.float32(value))))[0]
        text = f"0x{bits:016X}"  # floats are written as the double of equal value
    elif element == "double":
        text = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    elif element == "i1":
        text = "true" if value else "false"
    else:
        text = str(int(value))
    lanes = lanes_of(type)
    return Value(type, f"splat ({element} {text})" if lanes > 1 else text)


# How LLVM abbreviates types in the names of its intrinsics.
_SHORT = {"float": "f32", "double": "f64", "ptr": "p0"}


def short(type: str) -> str:
    """The suffix that an overloaded intrinsic has for this type."""
    element = _SHORT.get(element_of(type), element_of(type))
    return f"v{lanes_of(type)}{element}" if lanes_of(type) > 1 else element


@dataclass
class Module:
    """Functions that are compiled together, and what they declare."""

    functions: dict[str, str] = field(default_factory=dict)
    declarations: dict[str, str] = field(default_factory=dict)
    globals: list[str] = field(default_factory=list)
    attributes: str = "nounwind"
    bodies: dict[str, str] = field(default_factory=dict)
    """The names of bodies that kernels share, by their text."""

    def add(self, function: Function) -> None:
        """Take up a finished function; an equal name replaces nothing but errs."""
        if function.name in self.functions:
            raise ValueError(f"two functions are named {function.name}")
        self.functions[function.name] = function.text()

    def add_kernel(self, kernel: Function) -> None:
        """Take up a finished kernel: its body is compiled once for all that equal it.

        Layers of one geometry differ in nothing but the addresses that they work on,
        which the context holds in the kernel's ``slots``.
        """
        name, kernel.name, kernel.linkage = kernel.name, "", "internal"
        text = kernel.text()
        if text not in self.bodies:
            self.bodies[text] = kernel.name = f"cr_body{len(self.bodies)}"
            self.add(kernel)
        wrapper = Function(self, name, [("ptr", "ctx"), ("i64", "chunk")])
        addresses = [
            wrapper.load(wrapper.at(wrapper.parameters[0], slot, "i64"), "ptr")
            for slot in kernel.slots
        ]
        wrapper.call(self.bodies[text], "void", *wrapper.parameters, *addresses)
        wrapper.ret()
        self.add(wrapper)

    def text(self) -> str:
        """The whole module."""
        parts = [*self.globals, *self.declarations.values(), *self.functions.values()]
        return "\n".join([*parts, f"attributes #0 = {{ {self.attributes} }}", ""])


class Function:
    """One native function in the making.

    Args:
        module: where its declarations go; ``module.add(function)`` finishes it.
        name: of the symbol.
        parameters: (type, name) pairs; ``function.parameters[i]`` are their values.
        returns: the type of the result.
        inline: "alwaysinline", "noinline" or nothing.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        parameters: Sequence[tuple[str, str]] = (),
        returns: str = "void",
        *,
        linkage: str = "",
        inline: str = "",
    ) -> None:
        self.module = module
        self.name = name
        self.returns = returns
        self.linkage = linkage
        self.inline = inline
        self.parameters = [
            Value(t.removesuffix(" noalias"), f"%{n}") for t, n in parameters
        ]
        self._listed = [f"{t} %{n}" for t, n in parameters]
        self.slots: list[int] = []
        """For a kernel, where in its context the addresses stand that it works on."""
        self._entry = ["entry:"]
        self._lines: list[str] = []
        self._count = 0
        self._block = "entry"

    def text(self) -> str:
        """The function as LLVM IR."""
        words = ["define", self.linkage, self.returns]
        addresses = [f"ptr %a{i}" for i in range(len(self.slots))]
        listed = ", ".join([*self._listed, *addresses])
        head = f"{' '.join(filter(None, words))} @{self.name}({listed})"
        tail = f"{self.inline} #0 {{" if self.inline else "#0 {"
        return "\n".join([f"{head} {tail}", *self._entry, *self._lines, "}"])

    def address(self, slot: int) -> Value:
        """For a kernel, the address that stands in a slot of its context."""
        if slot not in self.slots:
            self.slots.append(slot)
        return Value("ptr", f"%a{self.slots.index(slot)}")

    def at_entry(self, type: str, text: str) -> Value:
        """An instruction that runs first of all, and whose result is known anywhere.

        It may read parameters and what other such instructions made.
        """
        name = f"%{self.fresh()}"
        self._entry.append(f"  {name} = {text}")
        return Value(type, name)

    # Instructions.

    def fresh(self, hint: str = "v") -> str:
        """A name that is not yet used."""
        self._count += 1
        return f"{hint}{self._count}"

    def line(self, text: str) -> None:
        """An instruction without a result."""
        self._lines.append(f"  {text}")

    def value(self, type: str, text: str) -> Value:
        """An instruction with a result of this type."""
        name = f"%{self.fresh()}"
        self._lines.append(f"  {name} = {text}")
        return Value(type, name)

    def binary(self, opcode: str, x: Value, y: Value) -> Value:
        """``fadd``, ``fmul``, ``add``, ``and`` ... of two values of one type."""
        return self.value(x.type, f"{opcode} {x}, {y.name}")

    def compare(self, opcode: str, x: Value, y: Value) -> Value:
        """``icmp slt`` or ``fcmp olt`` ... of two values of one type: i1 per lane."""
        result = vector("i1", lanes_of(x.type))
        return self.value(result, f"{opcode} {x}, {y.name}")

    def select(self, condition: Value, yes: Value, no: Value) -> Value:
        """``yes`` where the condition holds, lane by lane."""
        return self.value(yes.type, f"select {condition}, {yes}, {no}")

    def cast(self, opcode: str, x: Value, type: str) -> Value:
        """``sitofp``, ``fpext``, ``bitcast`` ... to a type."""
        return self.value(type, f"{opcode} {x} to {type}")

    def intrinsic(self, name: str, *arguments: Value) -> Value:
        """An ``llvm.NAME`` of arguments of one type, which it returns."""
        type = arguments[0].type
        return self.call(f"llvm.{name}.{short(type)}", type, *arguments)

    def call(self, name: str, returns: str, *arguments: Value) -> Value:
        """A call of a declared function, or of one of this module."""
        if name.startswith("llvm."):
            listed = ", ".join(a.type for a in arguments)
            self.module.declarations.setdefault(
                name, f"declare {returns} @{name}({listed})"
            )
        text = f"call {returns} @{name}({', '.join(map(str, arguments))})"
        if returns == "void":
            self.line(text)
            return Value("void", "")
        return self.value(returns, text)

    def fma(self, x: Value, y: Value, z: Value) -> Value:
        """x·y + z, rounded once where the processor has that instruction."""
        return self.intrinsic("fmuladd", x, y, z)

    def splat(self, x: Value, lanes: int) -> Value:
        """One number in every lane."""
        if lanes == 1:
            return x
        type = vector(x.type, lanes)
        one = self.value(type, f"insertelement {type} poison, {x}, i32 0")
        return self.value(
            type,
            f"shufflevector {one}, {type} poison, <{lanes} x i32> zeroinitializer",
        )

    # Memory. Addresses are byte-free: a pointer and an index counted in elements.

    def at(self, pointer: Value, index: Value | int, element: str) -> Value:
        """The address ``pointer + index`` elements."""
        if isinstance(index, int):
            if index == 0:
                return pointer
            index = Value("i64", str(index))
        return self.value("ptr", f"getelementptr {element}, {pointer}, {index}")

    def load(self, pointer: Value, type: str) -> Value:
        """The value at an address, aligned as its elements are."""
        return self.value(type, f"load {type}, {pointer}, align {_align(type)}")

    def store(self, x: Value, pointer: Value) -> None:
        """Write a value to an address, aligned as its elements are."""
        self.line(f"store {x}, {pointer}, align {_align(x.type)}")

    def masked_load(self, pointer: Value, mask: Value, type: str) -> Value:
        """The lanes of a vector whose mask is set; zero in the others."""
        zero = Value(type, "zeroinitializer")
        align = Value("i32", str(_align(type)))
        return self.call(
            f"llvm.masked.load.{short(type)}.p0", type, pointer, align, mask, zero
        )

    def masked_store(self, x: Value, pointer: Value, mask: Value) -> None:
        """Write only the lanes of a vector whose mask is set."""
        align = Value("i32", str(_align(x.type)))
        self.call(
            f"llvm.masked.store.{short(x.type)}.p0", "void", x, pointer, align, mask
        )

    def prefetch(self, pointer: Value) -> None:
        """Bring the line at an address into the second cache; any address will do."""
        flags = [Value("i32", str(i)) for i in (0, 2, 1)]
        self.call("llvm.prefetch.p0", "void", pointer, *flags)

    def gather(self, pointers: Value, mask: Value | None, type: str) -> Value:
        """A vector from as many addresses; zero in lanes that the mask leaves out."""
        lanes = lanes_of(type)
        return self.call(
            f"llvm.masked.gather.{short(type)}.v{lanes}p0",
            type,
            pointers,
            Value("i32", str(_align(type))),
            mask or number(vector("i1", lanes), 1),
            Value(type, "zeroinitializer"),
        )

    def scatter(self, x: Value, pointers: Value, mask: Value | None) -> None:
        """Write the lanes of a vector to as many addresses."""
        lanes = lanes_of(x.type)
        self.call(
            f"llvm.masked.scatter.{short(x.type)}.v{lanes}p0",
            "void",
            x,
            pointers,
            Value("i32", str(_align(x.type))),
            mask or number(vector("i1", lanes), 1),
        )

    def first_lanes(self, count: Value | int, lanes: int) -> Value:
        """A mask with its first ``count`` lanes set (all, if count is larger)."""
        type = vector("i32", lanes)
        places = ", ".join(f"i32 {i}" for i in range(lanes))
        if isinstance(count, int):
            bits = ", ".join(f"i1 {'true' if i < count else 'false'}"
                             for i in range(lanes))  # fmt: skip
            return Value(vector("i1", lanes), f"<{bits}>")
        high = Value("i64", str(lanes))
        clipped = self.call("llvm.smin.i64", "i64", count, high)
        limit = self.splat(self.cast("trunc", clipped, "i32"), lanes)
        return self.compare("icmp slt", Value(type, f"<{places}>"), limit)

    # Control flow.

    @property
    def block(self) -> str:
        """The label of the block being written, as phis name it."""
        return self._block

    def label(self, name: str) -> None:
        """Begin a block; the one before must have ended with a branch."""
        self._lines.append(f"{name}:")
        self._block = name

    def jump(self, label: str) -> None:
        """End the block by going on at a label."""
        self.line(f"br label %{label}")

    def branch(self, condition: Value, yes: str, no: str) -> None:
        """End the block by going on at one of two labels."""
        self.line(f"br {condition}, label %{yes}, label %{no}")

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """A block that runs only where the condition holds."""
        name = self.fresh("when")
        self.branch(condition, name, f"{name}.end")
        self.label(name)
        yield
        self.jump(f"{name}.end")
        self.label(f"{name}.end")

    @contextmanager
    def loop(
        self,
        begin: Value | int,
        end: Value | int,
        step: int = 1,
        carried: Sequence[Value] = (),
        *,
        nonempty: bool = False,
    ) -> Iterator[Loop]:
        """A counted loop, ``for i in range(begin, end, step)``.

        ``loop.index`` is i, ``loop.carried`` the values brought along; the body ends
        with ``loop.carry(values)`` if there are any. After the loop, ``loop.results``
        are the last ones.

        Where it is ``nonempty``, the end is tested after the body. That matters when
        the carried values fill the registers: with the test in front, their old and
        new names are alive at once, and all of them go through memory.
        """
        first = Value("i64", str(begin)) if isinstance(begin, int) else begin
        last = Value("i64", str(end)) if isinstance(end, int) else end
        name = self.fresh("loop")
        before = self._block
        self.jump(name)
        self.label(name)
        index = Value("i64", f"%{name}.i")
        header = len(self._lines)  # phis are written when their sources are known
        results = [Value(v.type, f"%{name}.c{k}") for k, v in enumerate(carried)]
        more = Value("i1", f"%{name}.more")
        if not nonempty:
            self.line(f"{more.name} = icmp slt {index}, {last.name}")
            self.branch(more, f"{name}.body", f"{name}.end")
            self.label(f"{name}.body")
        loop = Loop(index, results)
        yield loop
        if len(loop.next) != len(results):
            raise ValueError("loop: carry as many values as were brought along")
        self.line(f"%{name}.next = add nsw {index}, {step}")
        back = self._block
        if nonempty:
            self.line(f"{more.name} = icmp slt i64 %{name}.next, {last.name}")
            self.branch(more, name, f"{name}.end")
            loop.results = loop.next
        else:
            self.jump(name)
        phis = [
            f"  {index.name} = phi i64 [ {first.name}, %{before} ], "
            f"[ %{name}.next, %{back} ]"
        ]
        for v, start, following in zip(results, carried, loop.next, strict=True):
            phis.append(
                f"  {v.name} = phi {v.type} [ {start.name}, %{before} ], "
                f"[ {following.name}, %{back} ]"
            )
        self._lines[header:header] = phis
        self.label(f"{name}.end")

    def ret(self, x: Value | None = None) -> None:
        """End the function."""
        self.line(f"ret {x}" if x else "ret void")


class Loop:
    """A loop in the making: its index, and the values it carries around."""

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried
        self.results = carried
        self.next: list[Value] = []

    def carry(self, values: Sequence[Value]) -> None:
        """What the next round finds in ``carried``."""
        self.next = list(values)


def _align(type: str) -> int:
    element = element_of(type)
    if element == "ptr":
        return 8
    return {"float": 4, "double": 8}.get(element) or max(int(element[1:]) // 8, 1)
