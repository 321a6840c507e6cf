"""Random ops, drawn from a counter so that every execution draws the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.core.graph import Op, Tensor, apply, as_tensor, function, register
from chainrule.core.rng import random_bits
from chainrule.core.spec import Spec, is_float
from chainrule.errors import DtypeError, OptionError

__all__ = ["dropout_mask"]


@register
@dataclass(frozen=True)
class DropoutMask(Op):
    """0 with probability ``rate``, else 1/(1 - rate), in the shape of ``like``.

    Element i is dropped if word i of the stream lies below rate·2³²: integers are
    compared, so that every execution decides alike.
    """

    name = "dropout_mask"
    pattern = "blocks: a mask does not depend on the values it will multiply"
    rate: float

    def spec(self, *inputs: Spec) -> Spec:
        like = inputs[0]
        if not is_float(like.dtype):
            raise DtypeError("dropout_mask: not a float", got=like, expected="float32")
        return like

    def compute(self, *arrays: Any) -> Any:
        like, key, step = arrays
        words = random_bits((int(key[0]), int(key[1])), int(step), like.size)
        kept = words >= np.uint32(min(round(self.rate * 2**32), 2**32 - 1))
        mask = kept.reshape(like.shape).astype(like.dtype)
        mask *= like.dtype.type(1 / (1 - self.rate))
        return mask

    def gradient(self, dy: Tensor, y: Tensor, *inputs: Tensor) -> Any:
        return None, None, None


@function
def dropout_mask(like: Any, key: Any, step: Any, rate: float) -> Tensor:
    """A mask that drops each element with probability ``rate`` and rescales the rest.

    Args:
        like: a float tensor of the shape and dtype wanted.
        key: two 32-bit words that name the stream, see ``core.rng.stream_key``.
        step: the number of the draw; equal key and step give equal masks.
        rate: from 0 up to, but not including, 1.

    Raises OptionError for a rate outside [0, 1).

    Source: Srivastava et al., "Dropout", 2014, in the form that rescales in training.
    """
    if not 0 <= rate < 1:
        raise OptionError(
            "dropout: rate out of range", got=rate, expected="0 ≤ rate < 1"
        )
    return apply(DropoutMask.make(float(rate)), *map(as_tensor, (like, key, step)))
