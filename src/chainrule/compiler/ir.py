"""What a captured graph becomes: values defined element by element.

Every value says how one of its elements is made from elements of others, by index:
a ``Map`` from one element each, a ``Reduce`` from many, a ``Contract`` as a matrix
product. Axes of size 1 are gone and views are index arithmetic, so that the passes see
few kinds of things. Sizes may grow with the batch size n: ``Extent(a, b)`` is a·n + b.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from chainrule.core.scalar import Expr, formula, substitute, symbol
from chainrule.ops.window import Window

__all__ = [
    "Access",
    "Alias",
    "Blocks",
    "Contract",
    "Dynamic",
    "Extent",
    "Geometry",
    "Index",
    "Join",
    "Leaf",
    "Map",
    "Node",
    "Opaque",
    "Packed",
    "Reduce",
    "Scan",
    "Scatter",
    "Size",
    "Spread",
    "SquaredBatch",
    "at",
    "block_of",
    "identity",
    "pinned",
    "product",
    "row_major",
    "times",
]


@dataclass(frozen=True)
class Extent:
    """A size that depends on the batch size n: ``per_batch``·n + ``fixed``."""

    per_batch: int
    fixed: int

    def __str__(self) -> str:
        n = "n" if self.per_batch == 1 else f"{self.per_batch}n"
        return n if not self.fixed else f"{n}{self.fixed:+d}"


@dataclass(frozen=True)
class Blocks:
    """How many blocks of ``each`` examples cover the batch, times a number."""

    each: int
    times: int = 1

    def __str__(self) -> str:
        many = f"{self.times}·" if self.times != 1 else ""
        return f"{many}⌈n/{self.each}⌉"


Size = int | Extent | Blocks


def block_of(shape: Sequence[Size]) -> int:
    """Of how many examples each entry along the first axis is; 0 if not of a block."""
    first = shape[0] if shape else 0
    return first.each if isinstance(first, Blocks) else 0


class SquaredBatch(Exception):
    """A number of elements grows with the square of the batch size."""


def at(size: Size, n: int) -> int:
    """A size for one batch size."""
    if isinstance(size, Blocks):
        return size.times * -(-n // size.each)
    return size if isinstance(size, int) else size.per_batch * n + size.fixed


def times(a: Size, b: Size) -> Size:
    """a·b; two sizes that both grow with n have no product here."""
    if isinstance(a, int):
        return a * b if isinstance(b, int) else times(b, a)
    if not isinstance(b, int):
        raise SquaredBatch("the product of two batch sizes")
    if isinstance(a, Blocks):
        return Blocks(a.each, a.times * b) if b else 0
    return Extent(a.per_batch * b, a.fixed * b) if b else 0


def plus(a: Size, b: Size) -> Size:
    """a + b."""
    if 0 in (a, b):
        return a if b == 0 else b
    assert not isinstance(a, Blocks)
    assert not isinstance(b, Blocks)
    x = a if isinstance(a, Extent) else Extent(0, a)
    y = b if isinstance(b, Extent) else Extent(0, b)
    per_batch, fixed = x.per_batch + y.per_batch, x.fixed + y.fixed
    return Extent(per_batch, fixed) if per_batch else fixed


def product(sizes: Sequence[Size]) -> Size:
    """The product of sizes."""
    result: Size = 1
    for size in sizes:
        result = times(result, size)
    return result


def row_major(shape: Sequence[Size]) -> tuple[Size, ...]:
    """How many elements lie between neighbours along each axis."""
    strides: list[Size] = []
    step: Size = 1
    for size in reversed(shape):
        strides.append(step)
        step = times(step, size)
    return tuple(reversed(strides))


@dataclass(frozen=True)
class Index:
    """Where along one axis: Σ coefficient·(position on an axis of the reader) + offset.

    ``terms`` are (axis of the reader, coefficient) pairs.
    """

    terms: tuple[tuple[int, int], ...] = ()
    offset: Size = 0

    @staticmethod
    def axis(axis: int) -> Index:
        """The reader's own position on one of its axes."""
        return Index(((axis, 1),))

    def substitute(self, by: Sequence[Place]) -> Place:
        """This index, read where the reader itself is read at ``by``."""
        if len(self.terms) == 1 and self.terms[0][1] == 1 and self.offset == 0:
            return by[self.terms[0][0]]
        terms: dict[int, int] = {}
        offset = self.offset
        for axis, coefficient in self.terms:
            inner = by[axis]
            if not isinstance(inner, Index):
                raise NotImplementedError("arithmetic on an index read from memory")
            for a, c in inner.terms:
                terms[a] = terms.get(a, 0) + c * coefficient
            offset = plus(offset, times(inner.offset, coefficient))
        return Index(tuple((a, c) for a, c in sorted(terms.items()) if c), offset)

    def __str__(self) -> str:
        parts = [
            f"{'' if c == 1 else f'{c}·'}{_AXES[a]}" for a, c in self.terms
        ]  # fmt: skip
        if self.offset != 0 or not parts:
            parts.append(str(self.offset))
        return " + ".join(parts)


_AXES = "ijklmnopqrstuvw"


@dataclass(frozen=True)
class Dynamic:
    """Where along one axis: as an integer tensor says; negative counts from the end."""

    access: Access
    size: Size

    def __str__(self) -> str:
        return str(self.access)


Place = Index | Dynamic


@dataclass(frozen=True)
class Access:
    """An element of ``node``: one place for each of its axes."""

    node: Node
    places: tuple[Place, ...]

    def substitute(self, by: Sequence[Place]) -> Access:
        """The same access, where the reader itself is read at ``by``."""
        return Access(self.node, tuple(_substitute(p, by) for p in self.places))

    @property
    def is_identity(self) -> bool:
        """Whether the reader reads at its own position."""
        return self.places == identity(len(self.places))

    def __str__(self) -> str:
        if not self.places:
            return self.node.name
        return f"{self.node.name}[{', '.join(map(str, self.places))}]"


def _substitute(place: Place, by: Sequence[Place]) -> Place:
    if isinstance(place, Dynamic):
        return Dynamic(place.access.substitute(by), place.size)
    return place.substitute(by)


def identity(ndim: int) -> tuple[Place, ...]:
    """The reader's own position."""
    return tuple(Index.axis(a) for a in range(ndim))


@dataclass(eq=False)
class Node:
    """A value: its shape (without axes of size 1), its dtype, a name for prints."""

    name: str
    shape: tuple[Size, ...]
    dtype: np.dtype[Any]
    margins: tuple[tuple[int, int], ...] = field(default=(), kw_only=True)
    """For each axis, how much memory lies before and behind, for windows to look at;
    empty for none."""
    fill: float = field(default=0.0, kw_only=True)
    """What the margins hold."""

    @property
    def operands(self) -> tuple[Access, ...]:
        """What it is made from."""
        return ()

    @property
    def held(self) -> tuple[Size, ...]:
        """Its sizes in memory, with the margins."""
        if not self.margins:
            return self.shape
        pairs = zip(self.shape, self.margins, strict=True)
        return tuple(plus(size, lo + hi) for size, (lo, hi) in pairs)

    @property
    def strides(self) -> tuple[Size, ...]:
        """How many elements lie between neighbours along each axis."""
        return row_major(self.held)

    @property
    def start(self) -> int:
        """How many elements of its memory lie before its first."""
        total: Size = 0
        for (lo, _), stride in zip(self.margins, self.strides, strict=False):
            total = plus(total, times(lo, stride))
        assert isinstance(total, int)
        return total

    @property
    def spec(self) -> str:
        """Its dtype and shape as text."""
        sizes = [
            f"{lo}+{size}+{hi}" if lo or hi else str(size)
            for size, (lo, hi) in zip(
                self.shape, self.margins or ((0, 0),) * len(self.shape), strict=True
            )
        ]
        return f"{self.dtype.name}[{', '.join(sizes)}]"

    def describe(self) -> str:
        """How it is made, as text."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{self.name}: {self.spec} = {self.describe()}"


@dataclass(eq=False, repr=False)
class Leaf(Node):
    """A value that is there before: an input, a variable, a constant array, n."""

    kind: str = "input"
    source: Any = None
    """For an input its number, for a variable or constant the Tensor, for a number a
    function of n."""

    def describe(self) -> str:
        return self.kind


@dataclass(eq=False, repr=False)
class Map(Node):
    """Each element from one element of each operand, by a scalar expression.

    ``kind`` is "expression", "cast", or one of the few that are no expression: "place"
    (an index, checked against the size that ``setting`` gives), "iota"
    (the position along the first axis), "philox" (a random word by its position).
    """

    kind: str = "expression"
    expression: Expr | None = None
    """Over the symbols x0, x1, ... for the operands."""
    accesses: tuple[Access, ...] = ()
    setting: Any = None

    @property
    def operands(self) -> tuple[Access, ...]:
        return self.accesses

    @property
    def is_view(self) -> bool:
        """Whether it only moves elements."""
        return (
            self.kind == "expression"
            and self.expression is not None
            and self.expression.kind == "symbol"
        )

    def describe(self) -> str:
        if self.expression is None:
            return f"{self.kind}({', '.join(map(str, self.accesses))})"
        names = {f"x{i}": symbol(str(a)) for i, a in enumerate(self.accesses)}
        return formula(substitute(self.expression, names))


@dataclass(eq=False, repr=False)
class Reduce(Node):
    """Each element folded from many of its operand, along further axes.

    The access's places count the node's own axes first, then the reduced ones.
    """

    kind: str = "add"
    extents: tuple[Size, ...] = ()
    access: Access = None  # type: ignore[assignment]

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.access,)

    def describe(self) -> str:
        first = len(self.shape)
        bounds = ", ".join(
            f"{_AXES[first + i]} < {e}" for i, e in enumerate(self.extents)
        )
        return f"{self.kind} over {bounds} of {self.access}"


@dataclass(eq=False, repr=False)
class Contract(Node):
    """A batch of matrix products: y[..., i, j] = Σ_k a[..., i, k] · b[..., k, j].

    The accesses' places count batch axes, i, j, then k.
    """

    a: Access = None  # type: ignore[assignment]
    b: Access = None  # type: ignore[assignment]
    depth: Size = 0
    total: Size = 0
    """If not 0, the first batch axis counts parts of a sum of so many terms; each has
    ``depth`` of them, the last what is left."""

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.a, self.b)

    def describe(self) -> str:
        k = _AXES[len(self.shape)]
        parts = f" (of {self.total})" if self.total else ""
        return f"sum over {k} < {self.depth}{parts} of {self.a}·{self.b}"


@dataclass(frozen=True)
class Geometry:
    """What windows over a batch of images see, with all sizes, those of 1 too.

    Attributes:
        batch: the number of images.
        image: their height and width.
        places: where the window stands, along both.
        channels, filters: of the images, and of what the window makes of them.
        window: two axes of it.
        groups: of channels that do not see each other.
    """

    batch: Size
    image: tuple[int, int]
    places: tuple[int, int]
    channels: int
    filters: int
    window: Window
    groups: int = 1

    @property
    def images(self) -> tuple[Size, ...]:
        """The shape of the images."""
        return (self.batch, *self.image, self.channels)

    @property
    def outputs(self) -> tuple[Size, ...]:
        """The shape of what the windows give."""
        return (self.batch, *self.places, self.filters)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The shape of the filters."""
        return (*self.window.size, self.channels // self.groups, self.filters)


@dataclass(eq=False, repr=False)
class Convolution(Node):
    """Σ x[n, s·p + d·i - lo, c]·w[i, c, o]·y[n, p, o], by one of the three.

    By outputs y it is a convolution of x (``a``) and w (``b``), by data x of y and w.
    By filters, a and b are x and y; then an axis of parts comes first, each the sum
    over its share of the places, and ``swapped`` says whether that is laid out with o
    before the taps and channels of one row.

    With a ``tile``, so many places along each axis are taken together, by Winograd's
    transforms.
    """

    by: Literal["outputs", "data", "filters"] = "outputs"
    a: Access = None  # type: ignore[assignment]
    b: Access = None  # type: ignore[assignment]
    geometry: Geometry = None  # type: ignore[assignment]
    parts: int = 1
    swapped: bool = False
    tile: int = 0

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.a, self.b)

    def describe(self) -> str:
        how = f", in Winograd's tiles of {self.tile}×{self.tile}" if self.tile else ""
        return (
            f"convolution by {self.by} of {self.a.node.name} and {self.b.node.name}, "
            f"{self.geometry.window}{how}"
        )


@dataclass(eq=False, repr=False)
class Packed(Node):
    """Filters in the order in which a convolution's tiles read them.

    Phase by phase, panel by panel of ``columns`` results, term by term. With a ``tile``
    they are transformed: panel by panel, point by point, term by term.
    """

    access: Access = None  # type: ignore[assignment]
    by: Literal["outputs", "data"] = "outputs"
    geometry: Geometry = None  # type: ignore[assignment]
    columns: int = 0
    tile: int = 0

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.access,)

    def describe(self) -> str:
        how = f" for tiles of {self.tile}×{self.tile}" if self.tile else ""
        return f"{self.access.node.name} in panels of {self.columns}, by {self.by}{how}"


@dataclass(eq=False, repr=False)
class Spread(Node):
    """Images in which each window adds its output to elements that it sees.

    To all of them, or to the first that is the largest of ``images``.
    """

    access: Access = None  # type: ignore[assignment]
    images: Access | None = None
    geometry: Geometry = None  # type: ignore[assignment]

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.access,) if self.images is None else (self.access, self.images)

    @property
    def is_partition(self) -> bool:
        """Whether every element is seen by exactly one window."""
        window = self.geometry.window
        return all(
            k == s and d == 1 and lo == 0 and p * s == h
            for k, s, d, (lo, _), p, h in zip(
                window.size, window.stride, window.dilation, window.padding,
                self.geometry.places, self.geometry.image, strict=True,
            )
        )  # fmt: skip

    def describe(self) -> str:
        where = "all that it sees" if self.images is None else (
            f"the first largest of {self.images}"
        )  # fmt: skip
        return f"{self.access} added to {where}, {self.geometry.window}"


@dataclass(eq=False, repr=False)
class Join(Node):
    """Values one after another along one axis."""

    accesses: tuple[Access, ...] = ()
    """Each at the position that counts from where its part begins."""
    axis: int = 0
    sizes: tuple[Size, ...] = ()

    @property
    def operands(self) -> tuple[Access, ...]:
        return self.accesses

    def describe(self) -> str:
        parts = " | ".join(map(str, self.accesses))
        return f"{parts} along {_AXES[self.axis]}"


@dataclass(eq=False, repr=False)
class Scan(Node):
    """Running sums of the operand along one axis."""

    access: Access = None  # type: ignore[assignment]
    axis: int = 0

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.access,)

    def describe(self) -> str:
        return f"running sums along {_AXES[self.axis]} of {self.access}"


@dataclass(eq=False, repr=False)
class Scatter(Node):
    """Zeros, with the operand's elements added at places of their own."""

    access: Access = None  # type: ignore[assignment]
    places: tuple[Place, ...] = ()
    """Where in the result an element of the operand goes, by the operand's position."""

    @property
    def operands(self) -> tuple[Access, ...]:
        moved = (p.access for p in self.places if isinstance(p, Dynamic))
        return (self.access, *moved)

    def describe(self) -> str:
        return f"{self.access} added at [{', '.join(map(str, self.places))}]"


@dataclass(eq=False, repr=False)
class Alias(Node):
    """The elements of a stored value, in the same order, in another shape."""

    access: Access = None  # type: ignore[assignment]

    @property
    def operands(self) -> tuple[Access, ...]:
        return (self.access,)

    def describe(self) -> str:
        return f"{self.access.node.name} in another shape"


@dataclass(eq=False, repr=False)
class Opaque(Node):
    """A value that only NumPy can compute, by the op's ``compute``."""

    op: Any = None
    accesses: tuple[Access, ...] = ()
    shapes: tuple[tuple[Size, ...], ...] = ()
    """The operands' shapes and, last, the result's, with their axes of size 1."""

    @property
    def operands(self) -> tuple[Access, ...]:
        return self.accesses

    def describe(self) -> str:
        return f"{self.op.name}({', '.join(map(str, self.accesses))}) in NumPy"


@dataclass
class Definitions:
    """A whole function: its values in order, and what becomes of them."""

    nodes: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)
    assignments: list[tuple[Leaf, Node]] = field(default_factory=list)

    def text(self) -> str:
        """One line for each value, then the effects."""
        lines = [repr(node) for node in self.nodes]
        lines += [f"{v.name} <- {node.name}" for v, node in self.assignments]
        lines += [f"return {node.name}" for node in self.outputs]
        return "\n".join(lines)


def pinned(given: Definitions) -> set[Node]:
    """Values that must lie as their shape says, without margins."""
    found: set[Node] = {*given.outputs, *(n for _, n in given.assignments)}
    for node in given.nodes:
        if isinstance(node, (Alias, Opaque, Scan, Scatter)):
            found |= {a.node for a in node.operands}
    return found


def reachable(roots: Sequence[Node]) -> Iterator[Node]:
    """Everything that the roots are made from, operands before users, each once."""
    done: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        node, is_expanded = stack.pop()
        if is_expanded:
            yield node
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack += [(n, False) for n in sources(node)]


def sources(node: Node) -> Iterator[Node]:
    """The nodes it reads, those that say where included."""
    for access in node.operands:
        yield from _nodes_of(access)


def _nodes_of(access: Access) -> Iterator[Node]:
    yield access.node
    for place in access.places:
        if isinstance(place, Dynamic):
            yield from _nodes_of(place.access)
