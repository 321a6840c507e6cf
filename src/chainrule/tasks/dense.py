"""Tasks with numbers for every pixel: what restoring and segmenting share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from chainrule import data
from chainrule.errors import DataError, OptionError
from chainrule.tasks.settings import Settings
from chainrule.tasks.task import Task

__all__ = ["PictureTask", "channel_names"]


_LARGEST_WHOLE = 64
"""The side up to which pictures of one size are trained on as they are."""


@dataclass(frozen=True)
class PictureTask(Task):
    """A task whose model puts out pictures of the size of those it is given."""

    is_dense = True
    usual_patch: ClassVar[int] = 48
    own_options: ClassVar[tuple[str, ...]] = ("patch", "width", "depth")
    foreign_options = ("label_smoothing", "mixup", "tta", "labels")

    @classmethod
    def model_defaults(cls, model: str) -> dict[str, Any]:
        # A quarter of the paper's width: what a processor can train.
        return {"width": 16, "depth": 3} if model == "unet" else {}

    @classmethod
    def resolved(cls, settings: Settings, training: data.Dataset) -> Settings:
        check_pictures(training)
        if settings.patch is None:
            settings = settings.replace(patch=_usual_patch(training, cls.usual_patch))
        if not settings.patch and not training.has_one_size:
            raise OptionError(
                "option patch: whole pictures of several sizes make no minibatch",
                got="patch 0",
                expected="the side of the squares to train on, in pixels",
                hint="--patch 48, or --size 64,64",
            )
        return cls.resolved_further(settings, training)

    @classmethod
    @abstractmethod
    def resolved_further(cls, settings: Settings, training: data.Dataset) -> Settings:
        """The settings with the options filled in that only this task has."""


def check_pictures(training: data.Dataset) -> None:
    """Raise DataError for data that are no pictures of levels from 0 to 255."""
    shape = training.example_shape
    if len(shape) != 3 or training.picture(0).dtype != np.uint8:
        raise DataError(
            f"{training.name}: no pictures of levels from 0 to 255",
            got=f"examples of shape {shape} and type {training.picture(0).dtype}",
            expected="uint8 pictures (h, w, c)",
            hint="(255 * x).astype('uint8')",
        )


def _usual_patch(training: data.Dataset, largest: int) -> int:
    if training.has_one_size and max(training.example_shape[:2]) <= _LARGEST_WHOLE:
        return 0
    sides = [min(training.picture_shape(i)[:2]) for i in range(len(training))]
    # A few small ones are left out; where most are, patches have to be small too.
    return min(largest, int(np.median(sides)))


def channel_names(channels: int) -> tuple[str, ...]:
    """What the channels of a picture are called."""
    known = {1: ("grey",), 3: ("red", "green", "blue")}
    return known.get(channels, tuple(f"channel {i + 1}" for i in range(channels)))
