"""Scalar expressions carried out on variables: in place, or as ops of a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chainrule.core import scalar
from chainrule.core.graph import Tensor, Variable, apply, assign, mode, note_written
from chainrule.core.scalar import Expr
from chainrule.core.spec import FLOAT64
from chainrule.errors import GradientError
from chainrule.ops.elementwise import ElementwiseOp

__all__ = ["ONE_MORE", "Program", "Update"]


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


class Program:
    """Assignments to variables, made in order: each reads what those before wrote.

    Eager execution computes numbers as Python floats and writes into the variables'
    arrays; where a graph is being captured, every value is an op, then an assignment.

    Args:
        values: new values by the names of the variables.
        operands: what else is read and has the variables' shape and dtype.
        shared: numbers that the values read, from other numbers; all numbers that no
            expression makes, such as lr, are given.
    """

    def __init__(
        self,
        values: Mapping[str, Expr],
        operands: Sequence[str] = (),
        shared: Mapping[str, Expr] | None = None,
    ) -> None:
        self._updates = {name: Update.make(value) for name, value in values.items()}
        self._shared = {n: Update.make(value) for n, value in (shared or {}).items()}
        arrays = (*values, *operands)
        read = (n for op in self._updates.values() for n in op.arguments)
        self._numbers = tuple(dict.fromkeys(n for n in read if n not in arrays))
        self._arguments = (*arrays, *self._numbers)
        self._run = scalar.in_place_function(
            "program", self._arguments, self._numbers, values
        )

    def numbers(self, given: Mapping[str, Tensor], dtype: Any) -> list[Any]:
        """What ``run`` takes as numbers, from 0-d tensors by name."""
        if mode.effects_are_ops:
            tensors = {name: t.astype(FLOAT64) for name, t in given.items()}
            for name, op in self._shared.items():
                tensors[name] = apply(op, *[tensors[n] for n in op.arguments])
            return [tensors[name].astype(dtype) for name in self._numbers]
        floats = {name: t.data.item() for name, t in given.items()}
        for name, op in self._shared.items():
            floats[name] = float(op.compute(*[floats[n] for n in op.arguments]))
        return [floats[name] for name in self._numbers]

    def run(
        self,
        variables: Sequence[Variable],
        operands: Sequence[Tensor] = (),
        numbers: Sequence[Any] = (),
    ) -> None:
        """Carry the assignments out on variables, operands and numbers in order."""
        if not mode.effects_are_ops:
            self._run(*[t._array for t in (*variables, *operands)], *numbers)
            note_written(variables)
            return
        given = (*variables, *operands, *numbers)
        read = dict(zip(self._arguments, given, strict=True))
        for variable, op in zip(variables, self._updates.values(), strict=True):
            assign(variable, apply(op, *[read[name] for name in op.arguments]))


ONE_MORE = Program({"n": scalar.symbol("n") + 1})
"""n ← n + 1, for counters of steps."""
