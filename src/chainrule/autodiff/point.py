"""Where a function is differentiated: all numbers of its arguments in one row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.spec import FLOAT64
from chainrule.core.trace import input_names
from chainrule.errors import OptionError

__all__ = ["Point"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Point:
    """A function's arguments, by their names, in float64.

    Example:
        >>> point = Point.of({"w": [1.0, 2.0], "b": 3.0})
        >>> point.labels, point.row
        (['w[0]', 'w[1]', 'b'], array([1., 2., 3.]))
        >>> point.call(lambda w, b: w[0] * w[1] + b, [5.0, 6.0, 7.0]).item()
        37.0
    """

    arrays: dict[str, Array]
    is_named: bool
    """Whether the function takes them by name, and not by position."""

    @classmethod
    def of(cls, at: Any, f: Callable[..., Any] | None = None, name: str = "x") -> Point:
        """The point that is a number, an array, a tuple of them, or a mapping of names.

        Without names of their own they have those that ``f`` gives its arguments, or
        ``name`` where there is only one and no ``f``.

        Raises OptionError where there are no numbers.
        """
        is_named = isinstance(at, Mapping)
        given: Sequence[Any] = (
            list(at.values()) if is_named else at if isinstance(at, tuple) else [at]
        )
        names = list(at) if is_named else [name]
        if not is_named and f is not None:
            names = input_names(f, len(given))
        arrays = {
            n: as_tensor(v, FLOAT64).data.copy()
            for n, v in zip(names, given, strict=True)
        }
        if not sum(a.size for a in arrays.values()):
            raise OptionError(
                "derivatives: there is nothing to differentiate by",
                got="no numbers",
                expected="a number, an array, a tuple of them, or a mapping of names",
            )
        return cls(arrays, is_named)

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return sum(a.size for a in self.arrays.values())

    @property
    def row(self) -> Array:
        """All numbers in one row."""
        return np.concatenate([a.reshape(-1) for a in self.arrays.values()])

    @property
    def labels(self) -> list[str]:
        """What each number is called: ``w`` or ``w[0, 1]``."""
        return [
            f"{name}[{', '.join(map(str, place))}]" if place else name
            for name, array in self.arrays.items()
            for place in np.ndindex(array.shape)
        ]

    def call(self, f: Callable[..., Any], row: Any) -> Any:
        """The function's value where the point is another row of numbers."""
        joined, parts, start = as_tensor(row), [], 0
        for array in self.arrays.values():
            parts.append(joined[start : start + array.size].reshape(array.shape))
            start += array.size
        return self.apply(f, parts)

    def apply(self, f: Callable[..., Any], parts: Sequence[Tensor | Array]) -> Any:
        """The function of these arguments, in their order."""
        if self.is_named:
            return f(**dict(zip(self.arrays, parts, strict=True)))
        return f(*parts)
