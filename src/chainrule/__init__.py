"""chainrule: neural networks for images that show their work.

Tensors, ops and derivatives stand here directly. The floors above them are modules that
load when first used: ``chainrule.nn``, ``optim``, ``data``, ``training``, ``tasks``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from chainrule import errors
from chainrule.core.graph import (
    Buffer,
    Parameter,
    Tensor,
    Variable,
    as_tensor,
    assign,
    enable_grad,
    no_grad,
)
from chainrule.core.showing import SHOWN
from chainrule.ops import *

if TYPE_CHECKING:
    from chainrule import (
        autodiff,
        compiler,
        data,
        explanation,
        nn,
        optim,
        tasks,
        training,
    )
    from chainrule.autodiff import (
        check_gradients,
        difference_table,
        grad,
        hessian,
        hvp,
        jacobian,
        jvp,
        numerical_gradient,
        per_example_gradients,
        symbolic_derivative,
        symbolic_gradient,
        value_and_grad,
        vjp,
    )
    from chainrule.compiler import compile
    from chainrule.core.gate import Gate
    from chainrule.core.trace import Graph
    from chainrule.explanation import explain
    from chainrule.explanation.drawing import (
        draw,
        draw_convolution,
        draw_frames,
        draw_network,
        draw_text,
    )
    from chainrule.explanation.equations import derivatives
    from chainrule.nn import manual_seed
    from chainrule.tasks import Settings, evaluate, fit, load, resume, train

# Loaded on first use: importing chainrule costs little more than importing NumPy.
_MODULES = (
    "autodiff",
    "compiler",
    "data",
    "explanation",
    "nn",
    "optim",
    "tasks",
    "training",
)
_FROM = {
    "autodiff": (
        "check_gradients",
        "difference_table",
        "grad",
        "hessian",
        "hvp",
        "jacobian",
        "jvp",
        "numerical_gradient",
        "per_example_gradients",
        "symbolic_derivative",
        "symbolic_gradient",
        "value_and_grad",
        "vjp",
    ),
    "compiler": ("compile",),
    "core.gate": ("Gate",),
    "core.trace": ("Graph",),
    "explanation": ("explain",),
    "explanation.drawing": (
        "draw",
        "draw_convolution",
        "draw_frames",
        "draw_network",
        "draw_text",
    ),
    "explanation.equations": ("derivatives",),
    "nn": ("manual_seed",),
    "tasks": ("Settings", "evaluate", "fit", "load", "resume", "train"),
}
_LAZY = {name: module for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"chainrule.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(f"chainrule.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'chainrule' has no attribute {name!r}")


def _shown(function: str) -> Callable[[Any], str | None]:
    """What a notebook shows, by a function that is loaded when it is first asked."""
    name = "chainrule.explanation.drawing"
    return lambda what: getattr(importlib.import_module(name), function)(what)


SHOWN["svg of a graph"] = _shown("graph_svg")
SHOWN["html of a graph"] = _shown("graph_html")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_LAZY})
