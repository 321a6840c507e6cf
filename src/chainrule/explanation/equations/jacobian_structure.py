"""What is known of a Jacobian, in words and as LaTeX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.spec import Spec
from chainrule.errors import counted
from chainrule.explanation.equations.arrays import array_text, is_small, matrix_latex
from chainrule.explanation.notation import number

__all__ = ["JacobianStructure"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class JacobianStructure:
    """What ``describe_jacobian`` found; prints as sentences.

    ``kind`` is one of "zero", "identity", "scalar multiple of the identity",
    "permutation", "diagonal", "routing", "block diagonal", "sparse", "full".
    """

    output: Spec
    input: Spec
    formula: str
    """The op, where there is one alone."""
    kind: str
    is_constant: bool
    """Whether it is the same everywhere: f is linear, or linear and a constant."""
    scale: float | None
    """The number c of c·I."""
    diagonal: Array | None
    """Of a diagonal one, in the shape of the input."""
    blocks: int
    """How many blocks a block diagonal one has: one for each example."""
    has_equal_blocks: bool
    share: float
    """Of entries that are not zero; of large ones estimated from some rows."""
    num_products: int
    """How many products with it were enough to know."""
    matrix: Array | None
    """The matrix (outputs, inputs) itself, where it is small."""

    @property
    def shape(self) -> tuple[int, int]:
        """(outputs, inputs) as a matrix."""
        return self.output.size, self.input.size

    @property
    def size_bytes(self) -> int:
        """What all of its entries would take."""
        return self.output.size * self.input.size * self.output.dtype.itemsize

    @property
    def kept_bytes(self) -> int:
        """What is enough to multiply with it: the diagonal, one block ..."""
        size = self.output.dtype.itemsize
        rows, columns = self.shape
        if self.kind in ("zero", "identity", "scalar multiple of the identity"):
            return size
        if self.kind == "block diagonal":
            block = rows // self.blocks * (columns // self.blocks)
            return size * block * (1 if self.has_equal_blocks else self.blocks)
        if self.kind in ("diagonal", "permutation", "routing"):
            return size * rows
        return round(self.size_bytes * self.share)

    def __str__(self) -> str:
        rows, columns = self.shape
        made = f" of {self.formula}" if self.formula else ""
        lines = [
            f"the Jacobian{made} is {self._structure()}",
            f"as a matrix {rows:,} × {columns:,}: {_bytes(self.size_bytes)} in "
            f"{self.output.dtype.name}",
        ]
        if self.kept_bytes * 2 <= self.size_bytes:
            lines.append(f"what it says fits into {_bytes(self.kept_bytes)}")
        if self.matrix is None:
            lines.append(
                f"known from {counted(self.num_products, 'product')} with it; it was "
                "never formed"
            )
        else:
            lines.append("checked on the matrix itself")
        lines += [
            f"output × input: {_shape(self.output)} by {_shape(self.input)}, "
            "J[i, j] = ∂y_i/∂x_j, as jacobian() gives it",
            f"input × output, the lectures' layout, is its transpose: "
            f"{columns:,} × {rows:,}",
        ]
        if self.matrix is not None and is_small(self.matrix):
            lines += array_text("∂y/∂x", self.matrix)
            lines += array_text("input × output", self.matrix.T)
        elif self.block is not None and is_small(self.block):
            name = "each block" if self.has_equal_blocks else "the first block"
            lines += array_text(name, self.block)
        return "\n".join(lines)

    @property
    def block(self) -> Array | None:
        """The first block of a small block diagonal one: what one example does."""
        if self.matrix is None or self.kind != "block diagonal":
            return None
        rows, columns = (n // self.blocks for n in self.shape)
        return self.matrix[:rows, :columns]

    def _structure(self) -> str:
        constant = "; the same everywhere: f is linear" if self.is_constant else ""
        if self.kind == "zero":
            return "zero: the output does not move with the input"
        if self.kind == "identity":
            return f"the identity: what comes back is handed on{constant}"
        if self.kind == "scalar multiple of the identity":
            return f"{number(self.scale or 0.0)} · identity{constant}"
        if self.kind == "permutation":
            return f"a permutation: numbers are moved, none is changed{constant}"
        if self.kind == "diagonal":
            assert self.diagonal is not None
            zeros = int((self.diagonal == 0).sum())
            of = f", {zeros:,} of {self.diagonal.size:,} of it 0" if zeros else ""
            return f"diagonal: each output sees its own input alone{of}{constant}"
        if self.kind == "routing":
            return (
                "a routing: each output is one of the inputs, the others get 0"
                f"{constant}"
            )
        if self.kind == "block diagonal":
            rows, columns = (n // self.blocks for n in self.shape)
            alike = ", all alike" if self.has_equal_blocks else ""
            size = f"{rows:,} × {columns:,}"
            return (
                f"block diagonal over the batch: {self.blocks:,} blocks of {size}"
                f"{alike}; no example sees another{constant}"
            )
        if self.kind == "sparse":
            return f"sparse: {self._share()} of its entries are not 0{constant}"
        if self.is_constant:
            return f"a matrix W (Wᵀ in the lectures' layout){constant}"
        if self.share < 1:
            return f"nearly full: {self._share()} of its entries are not 0"
        return "full: every output sees every input"

    def _share(self) -> str:
        about = "" if self.matrix is not None else "about "
        return f"{about}{self.share:.2%}"

    def latex(self) -> str:
        """The structure as LaTeX, with the matrix where it is small."""
        left = r"\frac{\partial y}{\partial x}"
        if self.matrix is not None and is_small(self.matrix):
            return f"{left} = {matrix_latex(self.matrix)}"
        symbols = {
            "zero": "0",
            "identity": "I",
            "scalar multiple of the identity": rf"{number(self.scale or 0.0)}\, I",
            "permutation": "P",
            "diagonal": r"\mathrm{diag}(d)",
            "routing": "R",
            "block diagonal": rf"\mathrm{{diag}}(J_1, \dots, J_{{{self.blocks}}})",
        }
        rows, columns = self.shape
        other = "W" if self.is_constant else "J"
        right = symbols.get(self.kind, other)
        return rf"{left} = {right} \in \mathbb{{R}}^{{{rows} \times {columns}}}"

    def _repr_latex_(self) -> str:
        return f"${self.latex()}$"


def _shape(spec: Spec) -> str:
    return f"({', '.join(map(str, spec.shape))})"


_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def _bytes(count: int) -> str:
    """A number of bytes in the units of memory and in those of disks."""
    if count < 1024:
        return counted(count, "byte")
    power = min(int(np.log2(count) // 10), len(_UNITS) - 1)
    decimal = min(int(np.log10(count) // 3), len(_UNITS) - 1)
    small = f"{count / 1000**decimal:.3g} {_UNITS[decimal].replace('i', '')}"
    return f"{count / 1024**power:.3g} {_UNITS[power]} ({small})"
