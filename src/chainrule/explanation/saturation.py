"""What "saturated" means: a slope below a hundredth of the largest that there is."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["is_flat", "is_saturated"]

_LARGEST = {"sigmoid": 0.25, "tanh": 1.0}
_SHARE = 0.01


def is_flat(op: str, slope: Any) -> Any:
    """Whether these slopes of an activation are those of a saturated one.

    Elementwise for arrays; False for all ops but sigmoid and tanh.

    Example:
        >>> is_flat("sigmoid", 0.002), is_flat("sigmoid", 0.2), is_flat("exp", 0.0)
        (True, False, False)
    """
    return abs(slope) < _SHARE * _LARGEST.get(op, 0.0)


def is_saturated(op: str, y: Any) -> Any:
    """Whether outputs y of a sigmoid or tanh lie where it is saturated; elementwise.

    Their slopes are y·(1 - y) and 1 - y².

    Example:
        >>> is_saturated("sigmoid", np.array([0.5, 0.98, 0.999])).tolist()
        [False, False, True]
        >>> is_saturated("tanh", np.array([0.9, -0.999])).tolist()
        [False, True]
    """
    return is_flat(op, y * (1 - y) if op == "sigmoid" else 1 - np.square(y))
