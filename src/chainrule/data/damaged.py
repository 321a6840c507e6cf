"""Damaged pictures with the undamaged ones as targets, for restoring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chainrule.data.corruptions.corruption import Corruption, Damaged
from chainrule.data.dataset import Array, Dataset
from chainrule.data.patches import Patches, with_room
from chainrule.data.transforms import Keys, Transform

__all__ = ["DamagedPictures", "mask_channels"]


class DamagedPictures(Dataset):
    """Pictures of another data set as a corruption leaves them, and as they were.

    An example is a patch of a picture, or a whole one where all have one size. It is
    cut, changed by ``augment`` and damaged anew in each epoch; ``damaged`` shows whole
    pictures, always damaged the same way, for evaluation.

    Args:
        base: undamaged pictures, uint8.
        corruption: what is done to them.
        patch: the side of the patches; None for whole pictures.
        augment: what is done to undamaged pictures before.
        as_inputs: what a network is shown of damaged pictures; by default the pictures
            alone.
        tells_lost: whether targets have it, for a loss on the hole only.

    Shapes: inputs as ``as_inputs`` has them; targets float32 (n, h, w, c), with what is
    lost (n, h, w, c + masks), where masks is 1 for pixels and c for values.

    Example:
        >>> from chainrule.data import load
        >>> from chainrule.data.corruptions import parse_corruption
        >>> digits = load("digits").train
        >>> half = DamagedPictures(digits, parse_corruption("mask:half"))
        >>> inputs, targets = half.pairs(np.array([0]), Keys(0, 1, np.array([0])))
        >>> inputs.shape, targets.shape, bool((inputs == targets).all())
        ((1, 8, 8, 1), (1, 8, 8, 1), False)
    """

    def __init__(
        self,
        base: Dataset,
        corruption: Corruption,
        *,
        patch: int | None = None,
        augment: Transform | None = None,
        as_inputs: Callable[[Damaged], Array] | None = None,
        tells_lost: bool = False,
    ) -> None:
        self.base = base = base if patch is None else with_room(base, patch)
        self.corruption = corruption
        self.augment = augment
        self.as_inputs = as_inputs or _pictures_alone
        self.tells_lost = tells_lost
        self.patches: Patches | None = None
        height, width, self.channels = base.picture_shape(0)
        if patch is not None:
            self.patches = Patches(
                [base.picture_shape(i) for i in range(len(base))], patch
            )
            height = width = patch
        count = len(base) if self.patches is None else len(self.patches)
        example = self.as_inputs(_blank(corruption, (height, width, self.channels)))
        super().__init__(
            example.shape[1:],
            np.zeros((count, 0), np.float32),
            name=base.name,
            sources=base.sources if self.patches is None else None,
            problems=base.problems,
        )

    def read(self, indices: Array) -> Array:
        return self.pairs(indices, Keys(0, 0, indices))[0]

    def pairs(self, indices: Array, keys: Keys) -> tuple[Array, Array]:
        return self.as_pairs(*self.views(indices, keys))

    def views(self, indices: Array, keys: Keys) -> tuple[Array, Damaged]:
        """What examples show, undamaged and damaged.

        Shapes: float32 (n, h, w, c), and the same.
        """
        truth = self._undamaged(indices, keys)
        if self.augment is not None:
            truth = self.augment(truth, keys)
        truth = truth.astype(np.float32)
        return truth, self.corruption(truth, keys.at("damage"))

    def as_pairs(self, truth: Array, damaged: Damaged) -> tuple[Array, Array]:
        """Pictures as a network's inputs and targets."""
        inputs = self.as_inputs(damaged)
        if self.tells_lost and damaged.lost is not None:
            truth = np.concatenate([truth, damaged.lost], axis=-1, dtype=np.float32)
        return inputs, truth

    def _undamaged(self, indices: Array, keys: Keys) -> Array:
        if self.patches is None:
            return self.base.read(indices)
        side = self.patches.side
        found = np.empty((len(indices), side, side, self.channels), np.uint8)
        for row, patch in zip(found, self.patches.at(keys), strict=True):
            row[...] = patch.of(self.base.picture(patch.picture))
        return found

    def damaged(self, numbers: Sequence[int] | Array) -> tuple[Array, Damaged]:
        """Whole pictures of one size and what the corruption makes of each, always.

        Shapes: numbers of the base's pictures -> float32 (n, h, w, c), and the same.
        """
        indices = np.asarray(numbers, np.int64).reshape(-1)
        pictures = [self.base.picture(i) for i in indices.tolist()]
        truth = np.stack(pictures).astype(np.float32)
        keys = Keys(0, 0, indices).at("damage")
        return truth, self.corruption(truth, keys)


def _pictures_alone(damaged: Damaged) -> Array:
    return damaged.pictures


def _blank(corruption: Corruption, shape: tuple[int, ...]) -> Damaged:
    """What a corruption makes of a black picture.

    Raises what it raises for pictures of a shape that it does not take.
    """
    keys = Keys(0, 0, np.zeros(1, np.int64))
    return corruption(np.zeros((1, *shape), np.float32), keys)


def mask_channels(corruption: Corruption, shape: tuple[int, ...]) -> int:
    """In how many channels a corruption says what is lost; 0 if nothing is.

    Raises what the corruption raises for pictures of a shape that it does not take.
    """
    lost = _blank(corruption, shape).lost
    return 0 if lost is None else int(lost.shape[-1])
