"""Where NaN or infinity came from: the first layer whose output or gradient has one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from chainrule.core.graph import Parameter, Tensor
from chainrule.nn import Module, observe
from chainrule.optim import global_norm

__all__ = ["gradient_norm", "locate"]


def gradient_norm(parameters: list[Parameter]) -> float:
    """``optim.global_norm`` as a number, in the gradients' own precision where it can.

    Finite exactly when every gradient is: squares that overflow float32 are summed
    again in float64.
    """
    gradients = [p.grad.data.ravel() for p in parameters if p.grad is not None]
    total = sum(float(np.dot(g, g)) for g in gradients)
    if math.isfinite(total):
        return math.sqrt(total)
    return float(global_norm(parameters).item())


def locate(model: Module, loss: Callable[[], Tensor]) -> str:
    """Run a failing step once more and say in words where the first bad number is."""
    first: list[Module] = []

    def note(module: Module, y: Tensor) -> None:
        if not first and not np.isfinite(y.data).all():
            first.append(module)

    with observe(note):
        value = loss()
    for path, module in model.named_modules():
        if first and module is first[0]:
            return _describe(path, module)
    if not np.isfinite(value.data).all():
        return "the loss is not finite though every layer's output is"
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not np.isfinite(parameter.grad.data).all():
            return f"the gradient of {name} is not finite though the loss is"
    return "the numbers are finite when the step is repeated"


def _describe(path: str, module: Module) -> str:
    where = f"layer {path!r} ({type(module).__name__})" if path else "the model"
    bad = [n for n, p in module.named_parameters() if not np.isfinite(p.data).all()]
    if bad:
        return f"the output of {where}; its {', '.join(bad)} is not finite either"
    return f"the output of {where}"
