"""A graph gate by gate: every value on the way up, every gradient on the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor
from chainrule.core.trace import Graph, Node
from chainrule.errors import ShapeError
from chainrule.explanation.notation import array_text, check_digits, pretty_name
from chainrule.explanation.page import listing, save_page

__all__ = ["Row", "Walk", "walk"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Row:
    """One node: how it was made, its value, its gradient and the gates it came from."""

    name: str
    formula: str
    """In terms of other nodes; empty for what was given."""
    value: Array
    gradient: Array | None
    gates: tuple[str, ...]
    """What the gates that use the node do to the gradient: "multiply switches"."""


@dataclass(frozen=True)
class Walk:
    """The forward pass and the backward pass of one number, as the lectures write them.

    Attributes:
        of: the number's name.
        rows: its graph's nodes, in the order in which they were computed.
        digits: how many digits numbers have.
    """

    of: str
    rows: tuple[Row, ...]
    digits: int = 6

    def __str__(self) -> str:
        return "\n".join(["forward", *self._forward(), "backward", *self._backward()])

    def _forward(self) -> Iterator[str]:
        for row in self.rows:
            made = f"{row.formula} = " if row.formula else ""
            value = array_text(row.value, self.digits)
            yield f"  {pretty_name(row.name)} = {made}{value}"

    def _backward(self) -> Iterator[str]:
        found = [row for row in reversed(self.rows) if row.gradient is not None]
        lines = [f"  {self._gradient(row)}" for row in found]
        width = min(max(map(len, lines)), 40)
        for row, line in zip(found, lines, strict=True):
            remark = ", ".join(dict.fromkeys(row.gates))
            if len(row.gates) > 1:
                remark += "; a branch adds up"
            yield f"{line:<{width}}   [{remark}]" if remark else line

    def _gradient(self, row: Row) -> str:
        value = array_text(row.gradient, self.digits)
        return f"∂{pretty_name(self.of)}/∂{pretty_name(row.name)} = {value}"

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain data, for JSON."""
        rows = [
            {
                "name": row.name,
                "formula": row.formula,
                "value": row.value.tolist(),
                "gradient": None if row.gradient is None else row.gradient.tolist(),
                "gates": list(row.gates),
            }
            for row in self.rows
        ]
        return {"of": self.of, "rows": rows, "text": str(self)}

    def _repr_html_(self) -> str:
        return listing(str(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a page that stands alone; raises OptionError, FileError."""
        save_page(path, f"{pretty_name(self.of)} gate by gate", self._repr_html_())


def walk(y: Tensor, *, digits: int = 6) -> Walk:
    """Every value that y was computed from and every ∂y/∂value, gate by gate.

    Raises:
        ShapeError: if y is not a single number.
        GradientError: if y was computed without recording.
        OptionError: for a number of digits outside 1 to 17.

    Example:
        >>> from chainrule.explanation import run_program
        >>> print(walk(run_program("(x+y)*z", {"x": -2, "y": 5, "z": -4})["f"]))
        forward
          x = -2
          y = 5
          z = -4
          v₁ = x + y = 3
          f = v₁·z = -12
        backward
          ∂f/∂f = 1
          ∂f/∂v₁ = -4   [multiply switches]
          ∂f/∂z = 3     [multiply switches]
          ∂f/∂y = -4    [add distributes]
          ∂f/∂x = -4    [add distributes]

    Source: intellivision, the first example of backpropagation.
    """
    check_digits(digits)
    if y.size != 1:
        raise ShapeError(
            "explain: an array, and one number is explained at a time",
            got=f"{y.name or 'y'}: {y.spec}",
            expected="a single number",
            hint=f"sum({y.name or 'y'}), or one of its {y.size} entries",
        )
    graph = Graph.of(y)
    with np.errstate(all="ignore"):
        graph.backward()
    gates: dict[int, list[str]] = {id(n): [] for n in graph}
    for node in graph:
        if node.op is not None:
            for operand in node.inputs:
                verb = node.op.pattern.partition(":")[0]
                gates[id(operand)].append(f"{node.op.name} {verb}")
    rows = (
        Row(
            name=node.name,
            formula="" if node.op is None else node.op.formula(*_operands(node)),
            value=node.tensor.data,
            gradient=None if node.gradient is None else node.gradient.data,
            gates=tuple(gates[id(node)]),
        )
        for node in graph
        if node.kind != "constant" or node.tensor.size > 1
    )
    return Walk(graph.outputs[0].name, tuple(rows), digits)


def _operands(node: Node) -> Iterator[str]:
    for operand in node.inputs:
        is_number = operand.kind == "constant" and operand.tensor.size == 1
        value = f"{operand.tensor.item():g}" if is_number else ""
        yield value or pretty_name(operand.name)
