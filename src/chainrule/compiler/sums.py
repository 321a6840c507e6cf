"""Reductions in the form in which they cost least: before kernels are chosen.

Three rewritings. A sum of terms, each a value times something that is the same for the
whole sum, becomes a sum of sums: what batch normalisation's gradient adds up last then
follows from sums that are there already, and the images are read once less. A reduction
over a whole batch is made in two steps, image by image and then over the images, so
that threads can share it. And a sum of squared deviations from a batch's mean becomes
one of deviations from each image's own mean, and of those means from the batch's: an
image is then in the cache when its squares are summed.

Source: T. F. Chan, G. H. Golub, R. J. LeVeque, Updating formulae and a pairwise
algorithm for computing sample variances, 1979, for variances from those of parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from chainrule.compiler.ir import (
    Access,
    Definitions,
    Dynamic,
    Extent,
    Index,
    Leaf,
    Map,
    Node,
    Place,
    Reduce,
    identity,
    reachable,
)
from chainrule.compiler.simplify import structure, with_operands
from chainrule.core import scalar
from chainrule.core.scalar import Expr

__all__ = ["arrange_sums"]

_LEAST = 32
"""Elements of one image from which a reduction is made in two steps."""


def arrange_sums(given: Definitions) -> Definitions:
    """The same function, with its reductions rewritten."""
    renamed: dict[Node, Node] = {}
    known: dict[object, Reduce] = {}
    for node in given.nodes:
        current = with_operands(node, renamed)
        if isinstance(current, Reduce):
            current = _Sums(known).rewritten(current)
        renamed[node] = current
    outputs = [renamed[n] for n in given.outputs]
    assignments = [(variable, renamed[n]) for variable, n in given.assignments]
    inputs = [n for n in given.nodes if isinstance(n, Leaf) and n.kind == "input"]
    used = list(reachable([*outputs, *(n for _, n in assignments)]))
    unused = [n for n in inputs if n not in set(used)]
    return Definitions([*unused, *used], outputs, assignments)


class _Sums:
    def __init__(self, known: dict[object, Reduce]) -> None:
        self.known = known

    def rewritten(self, node: Reduce) -> Node:
        """A reduction, or what it can be replaced by."""
        if node.kind == "add" and node.shape:
            terms = list(_terms(node.access, len(node.shape)))
            if any(_depends_on_sums(c) for c, _ in terms if c is not None):
                return self._distributed(node, terms)
            squares = _deviations(node.access)
            if squares is not None:
                return self._by_parts(node, *squares) or self._in_steps(node)
        return self._in_steps(self._shared(node))

    def _by_parts(self, node: Reduce, x: Access, mean: Access) -> Reduce | None:
        """Σ (x - mean)² image by image: Σ (x - own mean)² + size·(own mean - mean)²."""
        batch, *rest = node.extents
        sum_ = _sum_of_mean(mean)
        if sum_ is None or not self._can_go_in_steps(node):
            return None
        each = sum_.access.node
        moved = _image_first(node)
        if (
            not isinstance(each, Reduce)
            or each.access != x.substitute(moved)
            or each.extents != tuple(rest)
        ):
            return None
        size = math.prod(int(e) for e in rest if isinstance(e, int))
        by_image = (batch, *node.shape)
        own, ndim = identity(len(by_image)), len(by_image)
        x0, x1, x2 = (scalar.symbol(f"x{i}") for i in range(3))
        mine = Map(
            f"{node.name}_mean", by_image, node.dtype, "expression", x0 / float(size),
            (Access(each, own),),
        )  # fmt: skip
        wide = (*by_image, *rest)
        square = Map(
            f"{node.name}_square", wide, node.dtype, "expression",
            (x0 - x1) * (x0 - x1), (each.access, Access(mine, own)),
        )  # fmt: skip
        inside = self._shared(
            Reduce(
                f"{node.name}_each", by_image, node.dtype, kind="add",
                extents=tuple(rest), access=Access(square, identity(len(wide))),
            )
        )  # fmt: skip
        at_own = [Index.axis(a + 1) for a in range(ndim - 1)]
        both = Map(
            f"{node.name}_both", by_image, node.dtype, "expression",
            x0 + float(size) * ((x1 - x2) * (x1 - x2)),
            (Access(inside, own), Access(mine, own), mean.substitute(at_own)),
        )  # fmt: skip
        back: tuple[Place, ...] = (Index.axis(ndim - 1), *identity(ndim - 1))
        return self._shared(replace(node, extents=(batch,), access=Access(both, back)))

    def _shared(self, node: Reduce) -> Reduce:
        """One node for equal reductions."""
        key = (node.kind, node.shape, node.extents, node.access, node.dtype.name)
        return self.known.setdefault(key, node)

    def _distributed(
        self, node: Reduce, terms: list[tuple[_Factor | None, Access]]
    ) -> Node:
        """Σ (a·x + b·y) as a·Σx + b·Σy."""
        result: Expr | None = None
        accesses: list[Access] = []
        own = identity(len(node.shape))

        def name(access: Access) -> Expr:
            if access not in accesses:
                accesses.append(access)
            return scalar.symbol(f"x{accesses.index(access)}")

        for number, (factor, access) in enumerate(terms):
            part = self._in_steps(
                self._shared(replace(node, name=f"{node.name}_{number}", access=access))
            )
            term = name(Access(part, own))
            if factor is not None:
                names = {f"x{i}": name(a) for i, a in enumerate(factor.accesses)}
                term = scalar.substitute(factor.expression, names) * term
            result = term if result is None else result + term
        assert result is not None
        return Map(
            node.name, node.shape, node.dtype, "expression", result, tuple(accesses)
        )

    def _in_steps(self, node: Reduce) -> Reduce:
        """First over each image, then over the images."""
        if not self._can_go_in_steps(node):
            return node
        first, *rest = node.extents
        ndim = len(node.shape)
        moved = _image_first(node)
        each = Reduce(
            f"{node.name}_each", (first, *node.shape), node.dtype, kind=node.kind,
            extents=tuple(rest), access=node.access.substitute(moved),
        )  # fmt: skip
        each = self._shared(each)
        back: tuple[Place, ...] = (Index.axis(ndim), *identity(ndim))
        return self._shared(replace(node, extents=(first,), access=Access(each, back)))

    def _can_go_in_steps(self, node: Reduce) -> bool:
        """Whether it goes over a batch of images that are worth a step of their own."""
        first, *rest = node.extents
        inner = math.prod(e for e in rest if isinstance(e, int))
        return (
            isinstance(first, Extent)
            and inner >= _LEAST
            and not node.kind.startswith("arg")
            and not any(isinstance(s, Extent) for s in (*node.shape, *rest))
        )


def _image_first(node: Reduce) -> list[Place]:
    """Where a reader with axes n, own, reduced finds those of own, n, reduced."""
    ndim = len(node.shape)
    moved: list[Place] = [Index.axis(a + 1) for a in range(ndim)]
    moved += [Index.axis(0)]
    moved += [Index.axis(ndim + a) for a in range(1, len(node.extents))]
    return moved


def _deviations(access: Access) -> tuple[Access, Access] | None:
    """x and m where the value is (x - m)², and m the same for the whole sum."""
    square = access.node
    x0, x1 = (scalar.symbol(f"x{i}") for i in range(2))
    if not isinstance(square, Map) or not _is(square, x0 * x0):
        return None
    inside = square.accesses[0].substitute(access.places)
    difference = inside.node
    if not isinstance(difference, Map) or not _is(difference, x0 - x1):
        return None
    x, mean = (a.substitute(inside.places) for a in difference.accesses)
    return x, mean


def _sum_of_mean(mean: Access) -> Reduce | None:
    """The sum that a mean is a quotient of; None if it is no mean."""
    node = mean.node
    x0, x1 = (scalar.symbol(f"x{i}") for i in range(2))
    if not isinstance(node, Map) or not _is(node, x0 / x1):
        return None
    total, count = (a.node for a in node.accesses)
    is_mean = isinstance(total, Reduce) and total.kind == "add"
    is_number = isinstance(count, Leaf) and count.kind == "number"
    return total if is_mean and is_number else None  # type: ignore[return-value]


def _is(node: Map, expression: Expr) -> bool:
    """Whether a value is made by this expression."""
    made = node.expression
    return made is not None and structure(made) == structure(expression)


class _Factor:
    """Something that is the same for a whole sum: an expression of accesses."""

    def __init__(self, expression: Expr, accesses: tuple[Access, ...]) -> None:
        self.expression = expression
        self.accesses = accesses

    def times(self, other: _Factor | None) -> _Factor:
        if other is None:
            return self
        start = len(self.accesses)
        names = {
            f"x{i}": scalar.symbol(f"x{start + i}") for i in range(len(other.accesses))
        }
        moved = scalar.substitute(other.expression, names)
        return _Factor(self.expression * moved, (*self.accesses, *other.accesses))


_MINUS = _Factor(scalar.constant(-1.0), ())


def _terms(access: Access, ndim: int) -> Iterator[tuple[_Factor | None, Access]]:
    """The value at an access as terms: a factor that the sum does not move, and a rest.

    ``ndim`` axes of the reader are its own, the further ones are summed over.
    """
    split = _split(access, ndim)
    if split is None:
        yield None, access
        return
    for factor, inner in split:
        for further, leaf in _terms(inner, ndim):
            if factor is None:
                yield further, leaf
            else:
                yield factor.times(further), leaf


def _split(access: Access, ndim: int) -> list[tuple[_Factor | None, Access]] | None:
    """One step of ``_terms``; None where nothing fixed multiplies any part."""
    node = access.node
    if not isinstance(node, Map) or node.expression is None:
        return None
    expression = node.expression
    operands = [a.substitute(access.places) for a in node.accesses]

    def is_fixed(e: Expr) -> bool:
        """Whether an operand, as a symbol, stays the same throughout the sum."""
        return e.kind == "symbol" and not _moves(operands[int(e.name[1:])], ndim)

    def operand(e: Expr) -> Access:
        return operands[int(e.name[1:])]

    kind, args = expression.kind, expression.args
    if any(a.kind != "symbol" for a in args) or not args:
        return None
    if kind == "negative":
        inner = operand(args[0])
        return [(_MINUS, inner)] if _split(inner, ndim) else None
    if kind in ("add", "subtract"):
        sides = [operand(a) for a in args]
        if any(map(is_fixed, args)) or not any(_split(s, ndim) for s in sides):
            return None
        return [(None, sides[0]), (_MINUS if kind == "subtract" else None, sides[1])]
    if kind == "multiply":
        for mine, other in (args, args[::-1]):
            if is_fixed(mine) and not is_fixed(other):
                factor = _Factor(scalar.symbol("x0"), (operand(mine),))
                return [(factor, operand(other))]
    return None


def _moves(access: Access, ndim: int) -> bool:
    """Whether an access depends on the axes that are summed over."""
    for place in access.places:
        if isinstance(place, Dynamic):
            return True
        if any(axis >= ndim for axis, _ in place.terms):
            return True
    return False


def _depends_on_sums(factor: _Factor) -> bool:
    """Whether a factor is only known after other reductions."""
    return any(
        isinstance(node, Reduce) and node.shape
        for access in factor.accesses
        for node in reachable([access.node])
    )
