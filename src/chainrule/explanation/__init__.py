"""Explanations: walks over a graph that say why a number is what it is."""

from chainrule.explanation.derivation import (
    Explanation,
    Factor,
    Path,
    Step,
    explain,
)
from chainrule.explanation.program import run_program

__all__ = ["Explanation", "Factor", "Path", "Step", "explain", "run_program"]
