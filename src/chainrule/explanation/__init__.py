"""Explanations: walks over a graph that say why a number is what it is."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from chainrule.explanation.derivation import Explanation, Factor, Path, Step
from chainrule.explanation.explaining import explain
from chainrule.explanation.gate_by_gate import Row, Walk, walk
from chainrule.explanation.program import run_program

if TYPE_CHECKING:
    from chainrule.explanation import (
        behaviour,
        drawing,
        equations,
        features,
        figures,
    )

# Loaded on first use: each brings more than a derivation needs.
_MODULES = ("behaviour", "drawing", "equations", "features", "figures")

__all__ = [
    "Explanation",
    "Factor",
    "Path",
    "Row",
    "Step",
    "Walk",
    "explain",
    "run_program",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"chainrule.explanation.{name}")
    raise AttributeError(f"module 'chainrule.explanation' has no attribute {name!r}")
