"""A model in evaluation for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chainrule.nn.module import Module

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Dropout and its like are off inside the block; afterwards each is as before.

    Example:
        >>> from chainrule import nn
        >>> net = nn.Sequential(nn.Dense(2, 2), nn.Dropout(0.5))
        >>> with evaluating(net):
        ...     net[1].training
        False
        >>> net[1].training
        True
    """
    modes = [(module, module.training) for _, module in model.named_modules()]
    try:
        model.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training
