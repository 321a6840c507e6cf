"""A moving average of the weights, which often does better than the last weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from chainrule.core.graph import Buffer, Parameter, assign, no_grad
from chainrule.core.scalar import power, symbol
from chainrule.core.spec import INT64
from chainrule.errors import OptionError
from chainrule.optim.optimizer import load_buffers
from chainrule.optim.update import ONE_MORE, Program

__all__ = ["MovingAverage"]

Array = np.ndarray[Any, Any]


class MovingAverage:
    """The mean of all weights seen so far, the older the less they count.

    average ← average + rate·(w - average), rate = (1 - decay) / (1 - decayᵗ): after t
    updates, weights that are k updates old count in proportion to decayᵏ, so that the
    weights before training count for nothing.

    Args:
        named_parameters: (path, parameter) pairs, as ``model.named_parameters()``.
        decay: from 0 to below 1; about 1 / (1 - decay) updates are averaged.

    Raises:
        OptionError: for a decay out of its range.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Parameter([1.0])
        >>> average = MovingAverage([("w", w)], decay=0.5)
        >>> average.update()
        >>> w.data = np.array([4.0])
        >>> average.update()
        >>> with average.applied():
        ...     w.tolist()
        [3.0]
        >>> w.tolist()
        [4.0]

    Source: Polyak & Juditsky, "Acceleration of stochastic approximation by averaging",
    1992; the correction of the start is Adam's.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, Parameter]], decay: float = 0.999
    ) -> None:
        if not 0 <= decay < 1:
            raise OptionError(
                "moving average: decay is out of range",
                got=decay,
                expected="a number from 0 to below 1",
            )
        self.decay = decay
        self.num_updates = Buffer(0, INT64, name="num_updates")
        self._parameters = dict(named_parameters)
        self._averages = {
            path: Buffer(p.data, name=f"average/{path}")
            for path, p in self._parameters.items()
        }
        mean, w, rate, t = map(symbol, ("average", "w", "rate", "t"))
        self._program = Program(
            {"average": mean + rate * (w - mean)},
            ("w",),
            {"rate": (1 - decay) / (1 - power(decay, t))},
        )

    def update(self) -> None:
        """Take the weights as they are now into the average."""
        with no_grad():
            ONE_MORE.run([self.num_updates])
            for path, w in self._parameters.items():
                numbers = self._program.numbers({"t": self.num_updates}, w.dtype)
                self._program.run([self._averages[path]], [w], numbers)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the parameters' place until the block ends."""
        before = {path: p.numpy() for path, p in self._parameters.items()}
        for path, p in self._parameters.items():
            assign(p, self._averages[path])
        try:
            yield
        finally:
            for path, p in self._parameters.items():
                assign(p, before[path])

    def named_state(self) -> Iterator[tuple[str, Buffer]]:
        """(name, buffer) of all that later averages depend on."""
        yield "num_updates", self.num_updates
        for path, average in self._averages.items():
            yield f"average/{path}", average

    def state(self) -> dict[str, Array]:
        """Copies of all state by name, for a checkpoint."""
        return {name: buffer.numpy() for name, buffer in self.named_state()}

    def load_state(self, state: Mapping[str, Array]) -> None:
        """Take up the state of a checkpoint.

        Raises CheckpointError, with nothing changed, if a name, shape or dtype differs.
        """
        load_buffers("moving average", dict(self.named_state()), state)
