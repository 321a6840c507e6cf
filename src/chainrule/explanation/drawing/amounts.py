"""Values and gradients in few letters, and names as a drawing has them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor
from chainrule.core.trace import Node
from chainrule.explanation.drawing.signs import AnyNode, shape_text
from chainrule.explanation.notation import number, pretty_name

__all__ = ["amount", "gradient_of", "own_name", "value_of"]

_MAX_ENTRIES = 4  # of an array that are written out
_MADE_UP = re.compile(r"[vcx]\d+")

Array = np.ndarray[Any, Any]


def amount(array: Array) -> str:
    """A number as itself, few numbers as a list, many as their shape and norm.

    Example:
        >>> amount(np.array(-2.0)), amount(np.array([0.25, -1.0]))
        ('−2', '[0.25, −1]')
        >>> amount(np.ones((4, 4)))
        '4×4, norm 4'
    """
    if array.size == 1:
        return _short(array.item(), 6)
    if array.size <= _MAX_ENTRIES:
        return _listed(array)
    if array.dtype.kind != "f":
        return shape_text(array.shape)
    with np.errstate(all="ignore"):
        norm = float(np.sqrt(np.square(array.astype("float64")).sum()))
    return f"{shape_text(array.shape)}, norm {_short(norm, 3)}"


def _short(value: float, digits: int) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    words = number(value) if digits == 6 else f"{value:.{digits}g}"
    return words.replace("-", "−")


def _listed(array: Array) -> str:
    if not array.ndim:
        return _short(array.item(), 3)
    return f"[{', '.join(map(_listed, array))}]"


def value_of(node: AnyNode) -> Array | None:
    """The values of the latest run; None of a graph that has none."""
    held: Any = node.tensor._array if isinstance(node, Node) else None
    return held if isinstance(held, np.ndarray) else None


def gradient_of(node: AnyNode) -> Array | None:
    """∂L/∂node of the latest backward pass."""
    found: Tensor | None = node.gradient if isinstance(node, Node) else None
    return None if found is None else found.data


def own_name(node: AnyNode) -> str:
    """The name that somebody gave to a value; nothing where it is only numbered."""
    given = node.tensor is not None and bool(node.tensor.name)
    if not given and _MADE_UP.fullmatch(node.name):
        return ""
    return pretty_name(node.name)
