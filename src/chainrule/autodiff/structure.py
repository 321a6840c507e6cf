"""Tensors inside tuples, lists and dicts: taken out, and put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["flatten"]


def flatten(value: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """What stands at the ends of nested tuples, lists and dicts, and its inverse.

    Example:
        >>> ends, rebuild = flatten({"w": [1.0, 2.0], "b": 3.0})
        >>> ends
        [1.0, 2.0, 3.0]
        >>> rebuild([10, 20, 30])
        {'w': [10, 20], 'b': 30}
    """
    if isinstance(value, dict):
        keys = list(value)
        return _join(list(value.values()), lambda v: dict(zip(keys, v, strict=True)))
    if isinstance(value, tuple) and hasattr(value, "_make"):  # a named tuple
        return _join(list(value), value._make)
    if isinstance(value, (tuple, list)):
        return _join(list(value), type(value))
    return [value], lambda ends: ends[0]


def _join(
    parts: list[Any], make: Callable[[list[Any]], Any]
) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    flat = [flatten(p) for p in parts]

    def rebuild(ends: Sequence[Any]) -> Any:
        values, start = [], 0
        for inner, put_back in flat:
            values.append(put_back(ends[start : start + len(inner)]))
            start += len(inner)
        return make(values)

    return [end for inner, _ in flat for end in inner], rebuild
