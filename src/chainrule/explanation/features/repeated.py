"""Functions that are asked for many batches: native code as soon as it pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.compiler import compile
from chainrule.core.graph import Tensor, as_tensor
from chainrule.errors import CaptureError

__all__ = ["Repeated"]

Array = np.ndarray[Any, Any]

_EAGER = 512
"""Examples that are run in NumPy before: compiling takes seconds, the first time."""


class Repeated:
    """A function of batches that is compiled once it has seen 512 examples.

    A function that cannot be captured, since it looks at values, stays as it is.

    Args:
        f: from a batch (n, ...) to a tensor, or some, with a row for each example.
    """

    def __init__(self, f: Callable[[Tensor], Any]) -> None:
        self.function = f
        self._native: Callable[[Tensor], Any] | None = compile(f)
        self._seen = 0

    def __call__(self, inputs: Array) -> Any:
        """The function's result for a batch: an array, or a list of them."""
        x = as_tensor(inputs)
        self._seen += len(inputs)
        with np.errstate(all="ignore"):
            found = self._run(x)
        if isinstance(found, Tensor):
            return found.data
        return [y.data for y in found]

    def _run(self, x: Tensor) -> Any:
        if self._native is not None and self._seen > _EAGER:
            try:
                return self._native(x)
            except CaptureError:
                self._native = None
        return self.function(x)
