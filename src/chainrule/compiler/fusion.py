"""Which values are stored, and which loops make them: the third pass.

A ``Kernel`` is one walk over a space of positions. Its ``cores`` are what is summed up
there (a matrix product, reductions of rows or of columns), its ``roots`` the values
that it stores. Every other elementwise value is computed anew, in registers, wherever
it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chainrule.compiler.ir import (
    Access,
    Alias,
    Contract,
    Convolution,
    Definitions,
    Dynamic,
    Index,
    Join,
    Leaf,
    Map,
    Node,
    Opaque,
    Packed,
    Place,
    Reduce,
    Scan,
    Scatter,
    Size,
    Spread,
    identity,
    sources,
    times,
)
from chainrule.core import scalar

__all__ = ["Fused", "Kernel", "copy_outputs", "fuse"]

_NARROW = 256
"""Columns up to which a product makes its own left operand."""
_WHOLE = {
    Scan: "scan",
    Scatter: "scatter",
    Join: "join",
    Opaque: "numpy",
    Convolution: "filters",
    Spread: "spread",
    Packed: "pack",
}
"""Kernels that make one value and nothing of it."""
_MAKING = ("product", "convolution", "spread", "columns", "map")
"""Kernels that can make further values at the positions where they stand."""
_EXPENSIVE = {"exp", "expm1", "log", "log1p", "sin", "cos", "tanh", "erf", "power"}


@dataclass(eq=False)
class Kernel:
    """One walk over positions, and what it computes there.

    Kinds: "product" (a matrix product and what is made of it), "convolution" and
    "filters" (by outputs or data, and by filters), "spread" (the way back of pooling),
    "pack" (filters in the order in which they are read), "rows" (reductions whose
    elements lie side by side), "columns" (reductions across), "map" (neither), "join",
    "scan", "scatter", "numpy".
    """

    kind: str
    shape: tuple[Size, ...]
    """The outer positions; for rows without the reduced axes."""
    inner: tuple[Size, ...] = ()
    """The reduced axes."""
    cores: list[Node] = field(default_factory=list)
    roots: list[Node] = field(default_factory=list)
    name: str = ""

    def text(self) -> str:
        """What it computes, as text."""
        extents = ", ".join(map(str, self.shape))
        folded = ", ".join(map(str, self.inner))
        head = f"{self.name}: {self.kind} [{extents}]"
        lines = [head + (f" over [{folded}]" if folded else "")]
        lines += [f"  {c!r}" for c in self.cores]
        lines += [f"  store {r!r}" for r in self.roots]
        return "\n".join(lines)


@dataclass
class Fused:
    """Kernels in an order in which they can run."""

    kernels: list[Kernel]
    definitions: Definitions
    stored: set[Node]
    in_place: dict[Node, Leaf]
    """Values that may be written over the variable that they are assigned to."""
    copies: list[tuple[Leaf, Node]]
    """Assignments that have to wait until everything else has run."""
    needs: dict[Kernel, set[Kernel]]
    """The kernels that must have run before each."""

    def text(self) -> str:
        """The kernels, one after another."""
        lines = [k.text() for k in self.kernels]
        lines += [f"{n.name} is {v.name}" for n, v in self.in_place.items()]
        lines += [f"{v.name} <- {n.name} at the end" for v, n in self.copies]
        return "\n".join(lines)


def fuse(definitions: Definitions) -> Fused:
    """Kernels for the definitions, whose outputs have memory of their own."""
    return _Fusion(definitions).run()


@dataclass
class _Needed:
    """What a kernel reads, as it was found when so many nodes had a home."""

    made: tuple[int, int]
    settled: int
    seen: set[Node]
    """The nodes that this depends on."""
    found: set[Kernel]


class _Fusion:
    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self.kernels: list[Kernel] = []
        self.stored: set[Node] = set()
        self.home: dict[Node, Kernel] = {}
        self.evaluated: dict[Node, Kernel] = {}
        self.demanded: set[tuple[Access, Kernel]] = set()
        self.readers: dict[Node, dict[Kernel, None]] = {}
        """The kernels that compute a value for themselves."""
        self.order = {n: i for i, n in enumerate(definitions.nodes)}
        self._settled: list[Node] = []
        """The nodes that got a home, in that order."""
        self._needed: dict[Kernel, _Needed] = {}
        self._lasts: dict[Kernel, tuple[tuple[int, int], int]] = {}

    def run(self) -> Fused:
        nodes = self.definitions.nodes
        self.order = {n: i for i, n in enumerate(nodes)}
        self.users: dict[Node, dict[Node, None]] = {}
        for user in nodes:
            for operand in sources(user):
                self.users.setdefault(operand, {})[user] = None
        forced = _forced(self.definitions)
        for node in list(nodes):
            if isinstance(node, (Leaf, Alias)):
                self.stored.add(node)
            elif isinstance(node, Contract):
                self._new("product", node.shape, (node.depth,), [node])
                self._demand_all(node, self.home[node])
            elif isinstance(node, Reduce):
                self._place_reduction(node)
            elif isinstance(node, Convolution) and node.by != "filters":
                self._new("convolution", node.shape, (), [node])
                self._demand_all(node, self.home[node])
            elif isinstance(node, Spread) and node.is_partition:
                self._new("spread", node.shape, (), [node])
                self._demand_all(node, self.home[node])
            elif type(node) in _WHOLE:
                kind = _WHOLE[type(node)]
                kernel = self._new(kind, node.shape, (), [node])
                self._store(node, kernel)
                self._demand_all(node, kernel)
            elif node in forced:
                self._place_root(node)
        for node in forced:
            if node not in self.stored:
                self._store(node, self.home[node])
        return self._finish()

    # Placing.

    def _new(
        self,
        kind: str,
        shape: tuple[Size, ...],
        inner: tuple[Size, ...],
        cores: list[Node],
    ) -> Kernel:
        kernel = Kernel(kind, shape, inner, cores)
        self.kernels.append(kernel)
        for core in cores:
            self._settle(core, kernel)
        return kernel

    def _store(self, node: Node, kernel: Kernel) -> None:
        if node not in self.stored:
            self.stored.add(node)
            self._settle(node, kernel)
            kernel.roots.append(node)

    def _pending(self, access: Access) -> list[Access]:
        """The reductions that a value is made of and that are not in memory."""
        return [a for a in self._leaves(access) if a.node not in self.stored]

    def _place_reduction(self, node: Reduce) -> None:
        wide = (*node.shape, *node.extents)
        for pending in self._pending(node.access):
            kernel = self.home[pending.node]
            if (
                kernel.kind == "rows"
                and kernel.shape == node.shape
                and kernel.inner == node.extents
                and not node.kind.startswith("arg")
                and self._is_in_step(node.access, kernel)
                and not self._is_cycle(kernel, node)
            ):
                kernel.cores.append(node)
                self._settle(node, kernel)
                self._demand_all(node, kernel)
                return
        # Places of extrema are found row by row, however the rows lie.
        is_sum = bool(node.shape) and not node.kind.startswith("arg")
        across = is_sum and self._lies_across(node, wide)
        kind = "columns" if across else "rows"
        for kernel in reversed(self.kernels):
            if (kernel.kind, kernel.shape, kernel.inner) == (
                kind,
                node.shape,
                node.extents,
            ) and self._may_join(node, kernel):
                kernel.cores.append(node)
                self._settle(node, kernel)
                self._demand_all(node, kernel)
                return
        kernel = self._new(kind, node.shape, node.extents, [node])
        self._demand_all(node, kernel)

    def _may_join(self, node: Reduce, kernel: Kernel) -> bool:
        """Whether a reduction of the same rows shares a walk with others."""
        kinds = [c.kind for c in kernel.cores if isinstance(c, Reduce)]
        if any(k.startswith("arg") for k in (node.kind, *kinds)):
            return False
        if not node.shape or not self._is_in_step(node.access, kernel):
            return False
        if len(kernel.inner) > 1 and not self._shares_reads(node, kernel):
            return False
        return not self._is_cycle(kernel, node)

    def _shares_reads(self, node: Reduce, kernel: Kernel) -> bool:
        """Whether a walk over large values would read some of them for both."""

        def large(reduce: Reduce) -> set[Node]:
            ndim = len(reduce.shape) + len(reduce.extents)
            return {
                a.node for a in self._leaves(reduce.access) if len(a.places) == ndim
            }

        theirs = [large(c) for c in kernel.cores if isinstance(c, Reduce)]
        return any(large(node) & nodes for nodes in theirs)

    def _lies_across(self, node: Reduce, wide: tuple[Size, ...]) -> bool:
        """Whether neighbours in memory belong to different sums."""
        last_kept, last_reduced = len(node.shape) - 1, len(wide) - 1
        votes = 0
        for access in self._leaves(node.access):
            strides = strides_of(access, len(wide))
            if strides is None or len(access.places) < len(wide):
                continue
            if strides[last_reduced] == 1:
                votes -= 1
            elif strides[last_kept] == 1:
                votes += 1
        return votes > 0

    def _leaves(self, access: Access) -> list[Access]:
        """What is read from memory, or from reductions, for a value."""
        found: list[Access] = []
        seen: set[Access] = set()
        stack = [access]
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            node = current.node
            if node in self.stored or node in self.home:
                found.append(current)
            else:
                stack += [o.substitute(current.places) for o in node.operands]
        return found

    def _place_root(self, node: Node) -> None:
        """Find the kernel that can store an elementwise value on its way."""
        own = Access(node, identity(len(node.shape)))
        homes = {self.home[p.node] for p in self._pending(own)}
        homes |= {
            self.home[a.node]
            for operand in node.operands
            for a in self._leaves(operand)
            if isinstance(a.node, Map) and a.node in self.home and a.is_identity
        }
        for kernel in sorted(homes, key=self.kernels.index, reverse=True):
            if self._fits(own, kernel) and not self._is_cycle(kernel, node):
                self._demand(own, kernel)
                self._store(node, kernel)
                return
        kernel = self._sibling(node) or self._new("map", node.shape, (), [])
        self._demand(own, kernel)
        self._store(node, kernel)

    def _sibling(self, node: Node) -> Kernel | None:
        """A walk over the same positions that reads some of the same values."""
        own = Access(node, identity(len(node.shape)))
        mine = {a.node for a in self._leaves(own)}
        for kernel in reversed(self.kernels):
            if kernel.kind != "map" or kernel.shape != node.shape:
                continue
            theirs = {
                a.node
                for r in kernel.roots
                for operand in r.operands
                for a in self._leaves(operand)
            }
            # What both read is as large as they are, or a stack of such values.
            is_shared = not node.shape or any(
                n in mine and n.shape[-len(node.shape) :] == node.shape
                for n in (*kernel.roots, *theirs)
            )
            if (
                is_shared
                and self._is_in_step(own, kernel)
                and not self._is_cycle(kernel, node)
            ):
                return kernel
        return None

    def _fits(self, own: Access, kernel: Kernel) -> bool:
        """Whether a value's positions are those of a kernel with reductions."""
        shape = own.node.shape
        if kernel.kind == "rows":
            # A walk along one row alone is one chunk: not for what is as long as it.
            wide = (*kernel.shape, *kernel.inner) if kernel.shape else kernel.shape
            if shape not in (kernel.shape, wide):
                return False
        elif kernel.kind not in _MAKING or shape != kernel.shape:
            return False
        return self._is_in_step(own, kernel)

    def _is_in_step(self, access: Access, kernel: Kernel) -> bool:
        """Whether a value finds what the kernel sums up where the kernel stands."""
        outer = identity(len(kernel.shape))
        seen: set[Access] = set()
        stack = [access]
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            node = current.node
            stack += [p.access for p in current.places if isinstance(p, Dynamic)]
            is_own = self.home.get(node) is kernel
            if is_own and not isinstance(node, Map):
                if current.places != outer:
                    return False
            elif is_own and any(isinstance(p, Dynamic) for p in current.places):
                return False
            elif is_own and node.margins and not current.is_identity:
                return False  # what is around it is there only when it is stored
            elif is_own or not (node in self.stored or node in self.home):
                stack += [o.substitute(current.places) for o in node.operands]
        return True

    # What must be in memory.

    def _demand_all(self, node: Node, kernel: Kernel) -> None:
        for operand in node.operands:
            self._demand(operand, kernel)

    def _demand(self, access: Access, kernel: Kernel) -> None:
        """See to it that a kernel can read a value: stored, its own, or inlined."""
        node = access.node
        if (access, kernel) in self.demanded:
            return
        self.demanded.add((access, kernel))
        for place in access.places:
            if isinstance(place, Dynamic):
                self._demand(place.access, kernel)
        if node in self.stored:
            return
        if node in self.home:
            if self.home[node] is not kernel:
                self._store(node, self.home[node])
            return
        first = self.evaluated.get(node)
        if (
            first not in (None, kernel)
            and _is_expensive(node)
            and self._can_store(node, first, kernel)
        ):
            self._store(node, first)
            self._demand_all(node, first)
            return
        pending = [p for p in self._pending(access) if self.home[p.node] is not kernel]
        # A cast to a wider type is cheaper to repeat than to store.
        is_wider = all(p.node.dtype.itemsize < node.dtype.itemsize for p in pending)
        foreign = {} if is_wider else {self.home[p.node]: None for p in pending}
        for other in foreign:
            for stored in (*self._stems(pending, other, node), node):
                if self._can_store(stored, other, kernel):
                    self._store(stored, other)
                    self._demand_all(stored, other)
                    if stored is node:
                        return
                    # What is left to do for the value is cheap to do again.
                    self.demanded.discard((access, kernel))
                    self._demand(access, kernel)
                    return
        self.readers.setdefault(node, {})[kernel] = None
        if access.is_identity and node.shape == kernel.shape + (
            kernel.inner if kernel.kind == "rows" else ()
        ):
            self.evaluated.setdefault(node, kernel)
        for operand in node.operands:
            self._demand(operand.substitute(access.places), kernel)

    def _stems(
        self, pending: Iterable[Access], kernel: Kernel, node: Node
    ) -> Iterable[Node]:
        """The last value that everything made of a kernel's result is made of.

        Several values may branch off there; it is stored once instead of all of them.
        """
        cores = {p.node for p in pending if self.home[p.node] is kernel}
        if kernel.kind not in ("convolution", "spread") or len(cores) != 1:
            return
        (stem,) = cores
        while stem is not node:
            users = self.users.get(stem, ())
            if len(users) != 1:
                break
            (user,) = users
            own = [o for o in user.operands if o.node is stem]
            if (
                not isinstance(user, Map)
                or user.shape != stem.shape
                or user.dtype != stem.dtype
                or not all(o.is_identity for o in own)
            ):
                break
            stem = user
        if stem is not node and (stem not in cores or len(self.users[stem]) > 1):
            yield stem

    def _can_store(self, node: Node, kernel: Kernel, reader: Kernel) -> bool:
        """Whether a kernel that already stands can store one more value.

        Those that have computed it for themselves would then wait for the kernel.
        """
        own = Access(node, identity(len(node.shape)))
        pending = self._pending(own)
        if any(self.home[p.node] is not kernel for p in pending):
            return False
        waiting = [reader, *self.readers.get(node, ())]
        for other in waiting:
            if other is not kernel and (
                self._reaches(kernel, other) or self._waits_for(node, other)
            ):
                return False
        return self._fits(own, kernel) and not self._is_cycle(kernel, node)

    def _waits_for(self, node: Node, kernel: Kernel) -> bool:
        """Whether a value is made of something that a kernel makes."""
        seen: set[Node] = set()
        stack: list[Node] = [*sources(node)]
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen.add(n)
            home = self.home.get(n)
            if home is None:
                stack += sources(n)
            elif self._reaches(home, kernel):
                return True
        return False

    def _is_cycle(self, kernel: Kernel, node: Node) -> bool:
        """Whether the node, were it in the kernel, would wait for the kernel."""
        seen: set[Node] = set()
        stack: list[Node] = [*sources(node)]
        while stack:
            n = stack.pop()
            if n in seen or isinstance(n, Leaf):
                continue
            seen.add(n)
            home = self.home.get(n)
            if home is kernel:
                continue
            if home is not None:
                if self._reaches(home, kernel):
                    return True
                continue
            if isinstance(n, Alias) and self.home.get(n.access.node) is kernel:
                return True  # in another order than the kernel writes it
            stack += sources(n)
        return False

    def _settle(self, node: Node, kernel: Kernel) -> None:
        """Say which kernel makes a node."""
        self.home[node] = kernel
        self._settled.append(node)

    def _reaches(self, kernel: Kernel, target: Kernel) -> bool:
        """Whether a kernel needs, directly or not, what the target makes."""
        # Values come after all that they are made of: what ends before the target
        # begins cannot need it.
        made = (*target.cores, *target.roots)
        begin = min((self.order.get(n, -1) for n in made), default=-1)

        def later_needs(k: Kernel) -> list[Kernel]:
            return [n for n in self._needs(k) if self._last(n) > begin or n is target]

        if kernel is not target and self._last(kernel) <= begin:
            return False
        return _depends(kernel, target, later_needs)

    def _last(self, kernel: Kernel) -> int:
        """Where the last of a kernel's values stands in the definitions."""
        made = len(kernel.cores), len(kernel.roots)
        known = self._lasts.get(kernel)
        if known is None or known[0] != made:
            many = len(self.order)
            nodes = (*kernel.cores, *kernel.roots)
            last = max((self.order.get(n, many) for n in nodes), default=many)
            known = self._lasts[kernel] = made, last
        return known[1]

    def _needs(self, kernel: Kernel) -> set[Kernel]:
        """The kernels whose results a kernel reads."""
        made = len(kernel.cores), len(kernel.roots)
        known = self._needed.get(kernel)
        if (
            known is not None
            and known.made == made
            and known.seen.isdisjoint(self._settled[known.settled :])
        ):
            known.settled = len(self._settled)
            return known.found
        found: set[Kernel] = set()
        seen: set[Node] = set()
        self._needed[kernel] = _Needed(made, len(self._settled), seen, found)
        stack: list[Node] = []
        for node in (*kernel.cores, *kernel.roots):
            stack += sources(node)
        while stack:
            n = stack.pop()
            if n in seen:
                continue
            seen.add(n)
            if self.home.get(n, kernel) is not kernel:
                found.add(self.home[n])
            else:
                stack += sources(n)
        return found

    # Order and assignments.

    def _absorb_operands(self) -> None:
        """Let narrow products make the rows of their left operand themselves.

        A minibatch that is picked and multiplied a few rows at a time stays in the
        cache in between. With many columns, several chunks would need the same rows.
        """
        for kernel in list(self.kernels):
            if kernel.kind != "product" or len(kernel.shape) > 3:
                continue
            (core,) = kernel.cores
            assert isinstance(core, Contract)
            places: tuple[Place, ...] = (Index.axis(0), Index.axis(2))
            if len(kernel.shape) == 3 and isinstance(core.depth, int):
                # One of several parts of each row, beginning where the last one ends.
                places = (Index.axis(1), Index(((0, core.depth), (3, 1))))
            rows = core.a.node
            home = self.home.get(rows)
            width = kernel.shape[-1]
            if (
                home is None
                or home.kind != "map"
                or home.roots != [rows]
                or not (isinstance(width, int) and width <= _NARROW)
                or core.a.places != places
                or any(self._reads(kernel, k) for k in self.kernels if k is not home
                       and self._reads(k, home) and k is not kernel)
            ):  # fmt: skip
                continue
            self.kernels.remove(home)
            self._needed.clear()
            self._settle(rows, kernel)
            kernel.roots.append(rows)

    def _reads(self, kernel: Kernel, other: Kernel) -> bool:
        return kernel is not other and self._reaches(kernel, other)

    def _finish(self) -> Fused:
        self._absorb_operands()
        needs = {k: self._needs(k) for k in self.kernels}
        reads = {k: self._leaf_reads(k) for k in self.kernels}
        in_place: dict[Node, Leaf] = {}
        copies: list[tuple[Leaf, Node]] = []
        outputs = set(self.definitions.outputs)
        for variable, node in self.definitions.assignments:
            home = self.home.get(node)
            ok = (
                home is not None
                and node not in in_place
                and node not in outputs
                and (home.kind in _MAKING or home.kind == "rows")
                and node.shape == variable.shape
            )
            if ok and home is not None:
                others = {k for k in self.kernels if variable in reads[k]} - {home}
                elsewhere = variable in reads[home] and not self._reads_in_step(
                    home, variable, node
                )
                if elsewhere or any(
                    _depends(k, home, needs.__getitem__) for k in others
                ):
                    ok = False
                else:
                    needs[home] = needs[home] | others
                    in_place[node] = variable
            if not ok:
                copies.append((variable, node))
        ordered = _topological(self.kernels, needs)
        for i, kernel in enumerate(ordered):
            kernel.name = f"k{i}"
            kernel.roots.sort(key=lambda n: self.order.get(n, 0))
        return Fused(ordered, self.definitions, self.stored, in_place, copies, needs)

    def _leaf_reads(self, kernel: Kernel) -> set[Node]:
        """Everything that a kernel reads, down to memory."""
        found: set[Node] = set()
        stack: list[Node] = []
        for node in (*kernel.cores, *kernel.roots):
            stack += sources(node)
        while stack:
            n = stack.pop()
            if n in found:
                continue
            found.add(n)
            home = self.home.get(n)
            is_free = home is None and n not in self.stored
            if home is kernel or is_free or isinstance(n, Alias):
                stack += sources(n)
        return found

    def _reads_in_step(self, kernel: Kernel, variable: Leaf, node: Node) -> bool:
        """Whether a kernel reads a variable only where it then overwrites it."""
        for core in kernel.cores:
            for access in core.operands:
                if any(a.node is variable for a in self._deep(access, kernel)):
                    return False
        whole = identity(len(variable.shape))
        for root in kernel.roots:
            for operand in root.operands:
                for access in self._deep(operand, kernel):
                    if access.node is variable and (
                        access.places != whole or root.shape != node.shape
                    ):
                        return False
        return True

    def _deep(self, access: Access, kernel: Kernel) -> Iterable[Access]:
        """Everything read for a value in a kernel, down to memory."""
        seen: set[Access] = set()
        stack = [access]
        while stack:
            current = stack.pop()
            if current in seen:
                continue
            seen.add(current)
            yield current
            node = current.node
            stack += [p.access for p in current.places if isinstance(p, Dynamic)]
            if isinstance(node, Alias):
                stack.append(Access(node.access.node, current.places))
            elif isinstance(node, (Reduce, Contract, Convolution, Spread, Leaf)) or (
                node in self.stored and self.home.get(node) is not kernel
            ):
                continue
            else:
                stack += [o.substitute(current.places) for o in node.operands]


def _depends(
    kernel: Kernel, target: Kernel, needs: Callable[[Kernel], Iterable[Kernel]]
) -> bool:
    """Whether a kernel needs another's results, directly or through others."""
    seen: set[Kernel] = set()
    stack = [kernel]
    while stack:
        k = stack.pop()
        if k is target:
            return True
        if k not in seen:
            seen.add(k)
            stack += needs(k)
    return False


def _topological(
    kernels: Sequence[Kernel], needs: dict[Kernel, set[Kernel]]
) -> list[Kernel]:
    # Sets have no order of their own, and equal graphs shall become equal programs.
    number = {k: i for i, k in enumerate(kernels)}
    done: dict[Kernel, None] = {}
    under_way: set[Kernel] = set()
    stack: list[tuple[Kernel, bool]] = [(k, False) for k in reversed(kernels)]
    while stack:
        k, is_expanded = stack.pop()
        if k in done:
            continue
        if is_expanded:
            done[k] = None
        elif k in under_way:
            raise AssertionError("kernels wait for one another")
        else:
            under_way.add(k)
            stack.append((k, True))
            waiting = sorted(needs[k], key=number.__getitem__, reverse=True)
            stack += [(n, False) for n in waiting if n not in done]
    return list(done)


def _is_expensive(node: Node) -> bool:
    if not isinstance(node, Map):
        return False
    if node.kind == "dropout":
        return True
    return node.expression is not None and any(
        kind in _EXPENSIVE for kind in _kinds(node.expression)
    )


def _kinds(expression: Any) -> set[str]:
    found: set[str] = set()
    stack = [expression]
    while stack:
        e = stack.pop()
        found.add(e.kind)
        stack += e.args
    return found


def copy_outputs(definitions: Definitions) -> Definitions:
    """Give every output memory of its own, and what a variable takes from another."""

    def copied(node: Node) -> Node:
        access = Access(node, identity(len(node.shape)))
        copy = Map(
            f"{node.name}_out{len(definitions.nodes)}", node.shape, node.dtype,
            "expression", scalar.symbol("x0"), (access,),
        )  # fmt: skip
        definitions.nodes.append(copy)
        return copy

    definitions.assignments = [
        # Else the other's new value might be there when this one is read.
        (variable, copied(node) if isinstance(node, (Leaf, Alias)) else node)
        for variable, node in definitions.assignments
    ]
    taken: set[Node] = {node for _, node in definitions.assignments}
    outputs: list[Node] = []
    for node in definitions.outputs:
        if isinstance(node, (Leaf, Alias, Opaque)) or node in taken:
            node = copied(node)
        taken.add(node)
        outputs.append(node)
    definitions.outputs = outputs
    return definitions


def _forced(definitions: Definitions) -> dict[Node, None]:
    """What has to be in memory whoever computes it."""
    found: dict[Node, None] = {}

    def visit(access: Access, anywhere: bool) -> None:
        moved = any(isinstance(p, Dynamic) for p in access.places)
        if (anywhere or moved) and not isinstance(access.node, Leaf):
            found[access.node] = None
        for place in access.places:
            if isinstance(place, Dynamic):
                visit(place.access, anywhere)

    for node in definitions.nodes:
        fixed = isinstance(node, (Contract, Convolution, Packed, Alias, Opaque))
        for access in node.operands:
            is_number = (
                isinstance(access.node, Map) and not access.node.shape and node.shape
            )
            visit(access, fixed or bool(is_number))
        if isinstance(node, Scatter):
            for place in node.places:
                if isinstance(place, Dynamic):
                    visit(place.access, False)
        if any(map(any, node.margins)) and not isinstance(node, Leaf):
            found[node] = None
    for node in (*definitions.outputs, *(n for _, n in definitions.assignments)):
        if not isinstance(node, Leaf):
            found[node] = None
    # Operands before users, as the passes walk.
    order = {n: i for i, n in enumerate(definitions.nodes)}
    return dict.fromkeys(sorted(found, key=lambda n: order[n]))


def strides_of(access: Access, ndim: int) -> list[Size] | None:
    """How far in memory the access moves along each axis of its reader."""
    result: list[Size] = [0] * ndim
    for place, stride in zip(access.places, access.node.strides, strict=True):
        if isinstance(place, Dynamic):
            return None
        for axis, coefficient in place.terms:
            if result[axis] != 0:
                return None
            result[axis] = times(stride, coefficient)
    return result


def places_use(place: Place, axis: int) -> bool:
    """Whether a place depends on one axis of its reader."""
    if isinstance(place, Dynamic):
        return any(places_use(p, axis) for p in place.access.places)
    return any(a == axis for a, _ in place.terms)
