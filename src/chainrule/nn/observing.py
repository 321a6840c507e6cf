"""Looking at what every layer puts out, without changing the layers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from chainrule.core.graph import Tensor

if TYPE_CHECKING:
    from chainrule.nn.module import Module

__all__ = ["observe"]

Observer = Callable[["Module", Tensor], None]


class _Observers(threading.local):
    """Who is told of the outputs of this thread's layers."""

    active: tuple[Observer, ...] = ()


observers = _Observers()


@contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call ``observer(module, output)`` after every module's forward, in this thread.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> seen = []
        >>> with observe(lambda module, y: seen.append((repr(module), y.tolist()))):
        ...     y = nn.ReLU()(cr.Tensor([-1.0, 2.0]))
        >>> seen
        [('ReLU()', [0.0, 2.0])]
    """
    before = observers.active
    observers.active = (*before, observer)
    try:
        yield
    finally:
        observers.active = before
