"""Minibatches in an order that is a function of (seed, epoch), prepared ahead."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np

from chainrule.core.rng import generator
from chainrule.data.dataset import Array, Dataset
from chainrule.data.transforms import Keys, Transform
from chainrule.errors import OptionError

__all__ = ["Batch", "Loader"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Some examples: their inputs, their targets, and where they stand in the data."""

    inputs: Array
    targets: Array
    indices: Array


class Loader:
    """Hands out minibatches, epoch after epoch.

    The order of an epoch depends on the seed and the epoch's number alone, so a resumed
    run goes on where it stopped. ``ahead`` batches are prepared in a thread while the
    last one is being used; where a batch is a mere copy from memory there is no thread,
    because handing over would cost more than the copy.

    Example:
        >>> from chainrule.data.dataset import arrays
        >>> loader = Loader(arrays(np.zeros((5, 2)), [0, 1, 0, 1, 0]), 2, shuffle=False)
        >>> [batch.indices.tolist() for batch in loader.epoch(0)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        augment: Transform | None = None,
        ahead: int = 2,
        drop_last: bool = False,
    ) -> None:
        for option, value, low in (("batch_size", batch_size, 1), ("ahead", ahead, 0)):
            if value < low:
                raise OptionError(
                    f"loader: {option} is too small",
                    got=value,
                    expected=f"an integer from {low}",
                )
        if augment is not None and len(dataset.example_shape) != 3:
            raise OptionError(
                "loader: only pictures can be augmented",
                got=f"examples of shape {dataset.example_shape}",
                expected="(h, w, c)",
                hint="leave augment out",
            )
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.augment = augment
        self.ahead = ahead
        self.drop_last = drop_last

    def __len__(self) -> int:
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> Array:
        """The indices of the examples in the order in which the epoch shows them."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return generator(self.seed, "shuffle", epoch).permutation(len(self.dataset))

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """The batches of one epoch; those before ``start_step`` are not even read."""
        batches = self._batches(epoch, start_step)
        is_a_copy = self.dataset.is_in_memory and self.augment is None
        if self.ahead == 0 or is_a_copy:
            return batches
        return _prepared_ahead(batches, self.ahead)

    def batch(self, epoch: int, step: int, order: Array | None = None) -> Batch:
        """One minibatch of an epoch; ``order`` is the epoch's, if it is at hand."""
        order = self.order(epoch) if order is None else order
        indices = order[step * self.batch_size : (step + 1) * self.batch_size]
        keys = Keys(self.seed, epoch, indices)
        inputs, targets = self.dataset.pairs(indices, keys)
        if self.augment is not None:
            inputs = self.augment(inputs, keys)
        return Batch(inputs, targets, indices)

    def _batches(self, epoch: int, start_step: int) -> Generator[Batch, None, None]:
        order = self.order(epoch)
        for step in range(start_step, len(self)):
            yield self.batch(epoch, step, order)


def _prepared_ahead(
    batches: Iterator[Batch], ahead: int
) -> Generator[Batch, None, None]:
    """Draw from ``batches`` in a thread, at most ``ahead`` of them in advance."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(ahead)
    stopped = threading.Event()

    def offer(item: Batch | BaseException | None) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.05)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not offer(batch):
                    return
            offer(None)
        except BaseException as error:  # it belongs to whoever asked for the batch
            offer(error)

    thread = threading.Thread(target=work, name="chainrule-loader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
