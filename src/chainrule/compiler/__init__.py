"""The compiler: a captured graph becomes native code, pass by pass.

The passes in order: ``lowering`` (ops become definitions of elements), ``simplify``,
``fusion`` (which loops compute what), ``loops`` and ``products`` over ``contraction``
(native code of one kernel), ``program`` (kernels joined, memory laid out), ``native``
(LLVM). Beside them stand ``ir``, ``emit``, ``host``, ``vector_math``, ``threads`` and
``cache``; ``pipeline`` runs all, and ``function`` is what a user calls.
"""

from chainrule.compiler.function import CompiledFunction, compile, execution
from chainrule.compiler.pipeline import PASSES, Report

__all__ = ["PASSES", "CompiledFunction", "Report", "compile", "execution"]
