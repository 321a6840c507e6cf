"""What products with a matrix tell of it: no entry of it has to be seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from chainrule.autodiff import jvp, vjp
from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.spec import Spec
from chainrule.errors import ChainruleError, NonFiniteError

__all__ = ["Facts", "Products", "facts_from"]

Array = np.ndarray[Any, Any]

_NUM_ROWS = 16  # rows that are looked at to count what is not zero


class Facts(NamedTuple):
    """What products with a Jacobian tell."""

    kind: str
    is_constant: bool = True
    scale: float | None = None
    diagonal: Array | None = None
    blocks: int = 1
    has_equal_blocks: bool = False
    share: float = 0.0


class Products:
    """Products with the Jacobian at a point: Jᵀ·u by the way back, counted."""

    def __init__(
        self, f: Callable[[Tensor], Any], x: Array, y: Spec, rng: np.random.Generator
    ) -> None:
        self.f, self.x, self.y, self.rng = f, x, y, rng
        self.count = 0
        value, self._pull = vjp(f, x)
        coarse = min(np.finfo(t.dtype).precision for t in (value, as_tensor(x)))
        # What is rounded on the way is equal up to that.
        self.tolerance = 10.0 ** (3 - coarse)

    def back(self, u: Array, at: Array | None = None) -> Array:
        """Jᵀ·u, in the shape of x; at another point if one is given."""
        self.count += 1
        pull = self._pull if at is None else vjp(self.f, at)[1]
        return pull(u)[0].data

    def forward(self, v: Array) -> Array | None:
        """J·v; None where an op cannot be walked twice."""
        try:
            found = jvp(self.f, self.x, v)[1].data
        except ChainruleError:
            return None
        self.count += 1
        return found

    def drawn(self, shape: tuple[int, ...]) -> Array:
        """Random numbers, none of them near 0."""
        return self.rng.uniform(0.5, 1.5, shape) * self.rng.choice([-1, 1], shape)

    def is_equal(self, a: Array, b: Array) -> bool:
        size = float(np.abs(b).max(initial=0.0))
        return bool(np.abs(a - b).max(initial=0.0) <= self.tolerance * size)


def facts_from(j: Products) -> Facts:
    """The first of the structures that holds, from the simplest on."""
    u = j.drawn(j.y.shape)
    back = j.back(u)
    if not np.isfinite(back).all():
        raise NonFiniteError(
            "describe_jacobian: a derivative is not finite here",
            got="NaN or infinity",
            expected="finite derivatives",
            hint="another point: √x and log x have none at 0",
        )
    is_constant = _is_constant(j, u, back)
    if not back.any() and not j.back(j.drawn(j.y.shape)).any():
        return Facts("zero", is_constant)
    if j.y.size == j.x.size:
        found = _diagonal(j, u, back)
        if found is not None:
            return found._replace(is_constant=is_constant)
        if _is_permutation(j, u, back):
            return Facts("permutation", is_constant, share=1 / j.x.size)
    share = _share(j)
    if _is_routing(j):
        return Facts("routing", is_constant, share=share)
    blocks = _num_blocks(j)
    if blocks > 1:
        alike = _has_equal_blocks(j, blocks)
        return Facts("block diagonal", is_constant, blocks=blocks,
                      has_equal_blocks=alike, share=share)  # fmt: skip
    return Facts("sparse" if share < 0.5 else "full", is_constant, share=share)


def _is_constant(j: Products, u: Array, back: Array) -> bool:
    """Whether the Jacobian is the same at other points, near and far, on both sides."""
    far = 10 * max(1.0, float(np.abs(j.x).max()))
    step = j.drawn(j.x.shape)
    for scale in (0.1, -0.1, far, -far):
        elsewhere = j.back(u, j.x + scale * step)
        if not np.isfinite(elsewhere).all() or not j.is_equal(elsewhere, back):
            return False
    return True


def _diagonal(j: Products, u: Array, back: Array) -> Facts | None:
    ratio = back.reshape(-1) / u.reshape(-1)
    other = j.drawn(j.y.shape)
    if not j.is_equal(j.back(other).reshape(-1), ratio * other.reshape(-1)):
        return None
    diagonal = ratio.reshape(j.x.shape)
    first = float(ratio[0])
    if j.is_equal(ratio, np.full_like(ratio, first)):
        is_one = abs(first - 1) <= j.tolerance
        kind = "identity" if is_one else "scalar multiple of the identity"
        return Facts(kind, scale=1.0 if is_one else first, share=1 / ratio.size)
    share = float((ratio != 0).sum()) / ratio.size**2
    return Facts("diagonal", diagonal=diagonal, share=share)


def _is_permutation(j: Products, u: Array, back: Array) -> bool:
    return j.is_equal(np.sort(back, axis=None), np.sort(u, axis=None))


def _is_routing(j: Products) -> bool:
    """Whether each number of J·v is one of v's."""
    v = j.drawn(j.x.shape)
    forward = j.forward(v)
    if forward is None:
        return False
    known = np.sort(v, axis=None)
    found = forward.reshape(-1)
    place = np.clip(np.searchsorted(known, found), 1, max(1, known.size - 1))
    near = [
        np.abs(found - known[np.clip(place - k, 0, known.size - 1)]) for k in (0, 1)
    ]
    return bool((np.minimum(*near) <= j.tolerance).all())


def _halves(count: int) -> Iterator[Array]:
    """Halves of numbers, such that any two different ones are once apart."""
    numbers = np.arange(count)
    for bit in range(max(1, (count - 1).bit_length())):
        yield (numbers >> bit) & 1 == 0
        yield (numbers >> bit) & 1 == 1


def _num_blocks(j: Products) -> int:
    """The examples along the first axis, if none sees another; else 1."""
    x, y = j.x.shape, j.y.shape
    if not x or not y or x[0] != y[0] or x[0] < 2:
        return 1
    u = j.drawn(y)
    for half in _halves(x[0]):
        part = u.copy()
        part[~half] = 0
        if j.back(part)[~half].any():
            return 1
    return x[0]


def _has_equal_blocks(j: Products, blocks: int) -> bool:
    one = j.drawn(j.y.shape[1:])
    found = j.back(np.broadcast_to(one, j.y.shape).copy())
    return j.is_equal(found, np.broadcast_to(found[:1], found.shape))


def _share(j: Products) -> float:
    """The share of entries that are not 0, in some of the rows."""
    rows = j.rng.choice(j.y.size, min(_NUM_ROWS, j.y.size), replace=False)
    seen = []
    for row in rows:
        one = np.zeros(j.y.shape)
        one.flat[row] = 1
        seen.append((j.back(one) != 0).mean())
    return float(np.mean(seen))
