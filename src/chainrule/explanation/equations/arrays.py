"""Arrays beside equations: small ones written out, large ones by size and range."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule.explanation.notation import number

__all__ = ["array_text", "matrix_latex", "raised"]

Array = np.ndarray[Any, Any]

_MAX_ELEMENTS = 64
_MAX_COLUMNS = 9
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def raised(n: int) -> str:
    """A number as a superscript: the layer that a symbol belongs to."""
    return str(n).translate(_SUPERSCRIPTS)


def is_small(array: Array) -> bool:
    """Whether an array is written out."""
    columns = array.shape[-1] if array.ndim else 1
    return array.ndim <= 2 and array.size <= _MAX_ELEMENTS and columns <= _MAX_COLUMNS


def array_text(name: str, array: Array) -> list[str]:
    """Lines that show an array: its numbers, or how large they are.

    Example:
        >>> print("\\n".join(array_text("W", np.array([[1.0, -0.5], [0.25, 2.0]]))))
        W =  1     -0.5
             0.25   2
    """
    if not is_small(array):
        shape = "×".join(map(str, array.shape))
        low, high = number(float(array.min())), number(float(array.max()))
        return [f"{name} is {shape}, from {low} to {high}"]
    rows = [[_cell(float(v)) for v in row] for row in np.atleast_2d(array)]
    widths = [
        (
            max(len(cell.partition(".")[0]) for cell in column),
            max(len("".join(cell.partition(".")[1:])) for cell in column),
        )
        for column in zip(*rows, strict=True)
    ]
    indent = " " * len(f"{name} = ")
    lines = []
    for i, row in enumerate(rows):
        cells = []
        for cell, (before, behind) in zip(row, widths, strict=True):
            whole, dot, rest = cell.partition(".")
            cells.append(whole.rjust(before) + (dot + rest).ljust(behind))
        lines.append((f"{name} = " if i == 0 else indent) + "  ".join(cells).rstrip())
    return lines


def _cell(value: float) -> str:
    """Four digits: enough to follow the arithmetic."""
    return f"{value:.4g}"


def matrix_latex(array: Array) -> str:
    r"""A small array as a LaTeX matrix.

    Example:
        >>> print(matrix_latex(np.array([[1.0, 2.0]])))
        \begin{bmatrix} 1 & 2 \end{bmatrix}
    """
    rows = (" & ".join(_cell(float(v)) for v in row) for row in np.atleast_2d(array))
    return r"\begin{bmatrix} " + r" \\ ".join(rows) + r" \end{bmatrix}"
