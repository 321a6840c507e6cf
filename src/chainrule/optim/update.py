"""Scalar expressions carried out on variables: in place, or as ops of a graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chainrule.core import scalar
from chainrule.core.graph import Tensor, Variable, apply, assign, mode, note_written
from chainrule.core.scalar import Expr
from chainrule.errors import GradientError
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["Assignments", "Update"]


@dataclass(frozen=True)
class Update(ElementwiseOp):
    """Any expression as an op on arrays; its operands are the names that it reads.

    It is not in the op table, for it has no function of its own: expressions make it.
    """

    name = "update"
    pattern = "blocks: training is not differentiated"

    value: Expr

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        return scalar.symbols(self.value)

    def scalar(self, *x: Expr) -> Expr:
        values = dict(zip(self.arguments, x, strict=True))
        return scalar.substitute(self.value, values)

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        raise GradientError(
            "update: an optimizer's step has no gradient",
            got="a backward pass through step()",
            expected="a loss computed after the step, from the new weights",
        )

    def on(self, values: Mapping[str, Tensor]) -> Tensor:
        """The expression's value for these operands."""
        return apply(self, *[values[name] for name in self.arguments])


class Assignments:
    """Variables and their new values, assigned in order: each reads those before.

    Eager execution writes into the variables' arrays; where a graph is being captured,
    every new value is one op, and then an assignment.

    Args:
        values: the expressions by the names of the variables.
        numbers: names, among those that they read, that stand for 0-d tensors; all
            others have one shape and dtype.
    """

    def __init__(self, values: Mapping[str, Expr], numbers: Collection[str]) -> None:
        self.ops = {name: Update.make(value) for name, value in values.items()}
        read = (name for op in self.ops.values() for name in op.arguments)
        self.arguments = tuple(dict.fromkeys([*values, *read]))
        self._run = scalar.in_place_function(
            "assignments", self.arguments, numbers, values
        )

    def run(
        self, variables: Mapping[str, Variable], others: Mapping[str, Tensor]
    ) -> None:
        """Carry them out on the variables, which may also read the other tensors."""
        read = {**others, **variables}
        if mode.tracing:
            for name, op in self.ops.items():
                assign(variables[name], op.on(read))
            return
        self._run(*[read[name].data for name in self.arguments])
        for name in self.ops:
            note_written(variables[name])
