"""Dropout: noise in training that no unit can rely on another through."""

from __future__ import annotations

import numpy as np

from chainrule import ops
from chainrule.core.graph import Tensor, assign
from chainrule.errors import OptionError
from chainrule.nn.init import DrawnBuffer, random_key
from chainrule.nn.module import Module

__all__ = ["Dropout"]


class Dropout(Module):
    """In training, each element is 0 with probability ``rate``, else x / (1 - rate).

    In evaluation it is the identity, with the same mean. Masks are a function of
    (key, step): the key comes from the seed and the path, the step counts calls in
    training; both are saved with the model, so a resumed run draws the same masks.

    Raises:
        OptionError: for a rate outside [0, 1).

    Source: Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov, "Dropout", 2014,
    in the form that rescales in training.
    """

    def __init__(self, rate: float = 0.5) -> None:
        if not 0 <= rate < 1:
            raise OptionError(
                "dropout: rate out of range", got=rate, expected="0 ≤ rate < 1"
            )
        self.rate = float(rate)
        self.key = DrawnBuffer((2,), random_key, dtype=np.uint32)
        self.step = DrawnBuffer((), "zeros", dtype=np.int64)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.rate:
            return x
        mask = ops.dropout_mask(x, self.key, self.step, self.rate)
        assign(self.step, self.step + 1)
        return x * mask
