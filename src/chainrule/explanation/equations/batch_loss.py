"""The loss of a batch, and what each example adds to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from chainrule import nn
from chainrule.autodiff import grad
from chainrule.core.graph import Tensor, as_tensor, no_grad
from chainrule.core.spec import FLOAT64, is_float
from chainrule.errors import NonFiniteError, ShapeError
from chainrule.explanation.notation import number

__all__ = ["BatchLoss", "Loss"]

Array = np.ndarray[Any, Any]
Loss = Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class BatchLoss:
    """J of outputs that stand in columns, one for each example."""

    measure: Loss
    name: str
    targets: Tensor

    @classmethod
    def of(cls, loss: str | Loss | None, targets: Any) -> BatchLoss:
        """A loss by its name, as a function, or the lecture's where none is given."""
        y = as_tensor(targets)
        y = as_tensor(targets, FLOAT64) if is_float(y.dtype) else y
        if loss is None:
            return cls(partial(nn.squared_error, half=True), "1/(2n) Σ‖a - y‖²", y)
        if isinstance(loss, str):
            return cls(nn.loss(loss), loss, y)
        inner = loss.func if isinstance(loss, partial) else loss
        name = getattr(inner, "__name__", "the loss").replace("_", " ")
        return cls(loss, "the loss" if name == "<lambda>" else name, y)

    def whole(self, outputs: Array) -> float:
        """J; raises where it is not one finite number."""
        with no_grad():
            value = self.measure(Tensor(outputs.T), self.targets)
        if value.size != 1:
            raise ShapeError(
                "backpropagation: the loss is not one number",
                got=value.spec,
                expected="a single element",
                hint='reduction="mean"',
            )
        if not np.isfinite(value.item()):
            raise NonFiniteError(
                "backpropagation: the loss is not finite",
                got=number(float(value.item())),
                expected="a finite loss of these inputs and targets",
            )
        return float(value.item())

    def own(self, outputs: Array) -> Array:
        """The loss of each example, as if it were alone."""
        with no_grad():
            return np.array(
                [
                    float(self.measure(Tensor(a[None]), self.targets[k : k + 1]).item())
                    for k, a in enumerate(outputs.T)
                ]
            )

    def reduction(self, outputs: Array) -> str:
        """How J is made of the examples' own losses: "mean", "sum", or "joint"."""
        value, own = self.whole(outputs), self.own(outputs)
        if np.isclose(own.mean(), value, rtol=1e-10):
            return "mean"
        return "sum" if np.isclose(own.sum(), value, rtol=1e-10) else "joint"

    def slope(self, outputs: Array) -> Array:
        """∂J/∂a, a column for each example."""
        rows = grad(lambda rows: self.measure(rows, self.targets))(Tensor(outputs.T))
        return rows.data.T
