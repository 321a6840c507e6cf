"""The table of a model: its layers, what they put out, and how much they hold."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.core.graph import Tensor, no_grad
from chainrule.core.spec import as_dtype
from chainrule.nn.observing import observe

if TYPE_CHECKING:
    from chainrule.nn.module import Module

__all__ = ["summarize"]


def summarize(model: Module, input_shape: tuple[int, ...], dtype: Any) -> str:
    """See ``Module.summary``."""
    shapes = _output_shapes(model, input_shape, dtype)
    counts = _parameter_counts(model)
    rows = [("path", "layer", "output", "parameters")]
    for path, module in model.named_modules():
        is_container = any(m is not module for _, m in module.named_modules())
        if is_container and not counts[path]:
            continue
        shape = shapes.get(id(module))
        output = f"({', '.join(['n', *map(str, shape[1:])])})" if shape else "not run"
        rows.append((path or "(model)", repr(module), output, f"{counts[path]:,}"))
    a, b, c, d = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = [f"{p:<{a}}  {m:<{b}}  {y:<{c}}  {count:>{d}}" for p, m, y, count in rows]
    size_bytes = sum(p.spec.size_bytes for p in model.parameters())
    lines.append("")
    lines.append(
        f"{model.num_parameters():,} parameters "
        f"({model.num_parameters(trainable_only=True):,} trainable), "
        f"{size_bytes:,} bytes"
    )
    return "\n".join(lines)


def _parameter_counts(model: Module) -> Counter[str]:
    """How many numbers the parameters of each module hold, by its path."""
    modules = dict(model.named_modules())
    counts: Counter[str] = Counter()
    for path, parameter in model.named_parameters():
        owner = path
        while owner not in modules:  # the root's path is "", so this ends there
            owner = owner.rpartition(".")[0]
        counts[owner] += parameter.size
    return counts


def _output_shapes(
    model: Module, input_shape: tuple[int, ...], dtype: Any
) -> dict[int, tuple[int, ...]]:
    """The shape of every module's first output, by id, for one example of zeros."""
    shapes: dict[int, tuple[int, ...]] = {}

    def note(module: Module, y: Tensor) -> None:
        shapes.setdefault(id(module), y.shape)

    modes = [(module, module.training) for _, module in model.named_modules()]
    try:
        with no_grad(), observe(note):
            model.eval()(np.zeros((1, *input_shape), as_dtype(dtype)))
    finally:
        for module, training in modes:
            module.training = training
    return shapes
