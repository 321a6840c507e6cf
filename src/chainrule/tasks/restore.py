"""Restoring: the target is the picture itself, the input what is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import Tensor
from chainrule.data.corruptions import Chain, Damaged, Mask, Mosaic, parse_corruptions
from chainrule.data.damaged import DamagedPictures, mask_channels
from chainrule.errors import OptionError
from chainrule.ops import maximum
from chainrule.tasks.architecture import Architecture
from chainrule.tasks.dense import PictureTask, channel_names
from chainrule.tasks.first_guess import first_guess
from chainrule.tasks.restorer import Restorer
from chainrule.tasks.settings import Settings
from chainrule.tasks.statistics import picture_statistics
from chainrule.tasks.task import Task

__all__ = ["Restore"]

Array = np.ndarray[Any, Any]

_PLACES = ("all", "hole")


@dataclass(frozen=True)
class Restore(PictureTask):
    """Undo a known kind of damage.

    Losses are taken of levels from 0 to 1, as means over all values that count.

    Args:
        corruption: the texts that name the damage, in the order in which it happens.
        loss_on: "hole" where only what is lost counts, else "all".
        shows_mask: whether the network is shown what is lost, or clipped.
    """

    corruption: tuple[str, ...] = ()
    loss_on: str = "all"
    shows_mask: bool = False

    name = "restore"
    losses = ("squared", "absolute", "ssim")
    monitor = "psnr"
    scores_shown = ("psnr", "ssim", "psnr_hole")
    own_options = ("corruption", "loss_on", *PictureTask.own_options)

    @cached_property
    def chain(self) -> Chain:
        """The corruptions themselves."""
        return parse_corruptions(self.corruption)

    def inputs(self, damaged: Damaged) -> Array:
        """What the network is shown of damaged pictures."""
        return first_guess(damaged, self.chain, shows_mask=self.shows_mask)

    @property
    def has_hole(self) -> bool:
        """Whether some of the damage is a mask."""
        return any(isinstance(step, Mask) for step in self.chain.steps)

    @property
    def keeps_observed(self) -> bool:
        """Whether what is not lost was observed as it was, and can be put back."""
        return all(isinstance(step, (Mask, Mosaic)) for step in self.chain.steps)

    @classmethod
    def default_model(cls, settings: Settings, training: data.Dataset) -> str:
        if settings.hidden is not None:
            return "mlp"
        steps = parse_corruptions(settings.corruption).steps
        # A hole is filled from farther away than a few convolutions see.
        return "unet" if any(isinstance(step, Mask) for step in steps) else "dncnn"

    @classmethod
    def resolved_further(cls, settings: Settings, training: data.Dataset) -> Settings:
        chain = parse_corruptions(settings.corruption)
        *_, channels = training.picture_shape(0)
        side = settings.patch or 0
        shape = (side, side, channels) if side else training.example_shape
        loses = mask_channels(chain, shape) > 0
        loss_on = settings.loss_on
        if loss_on is None:
            is_hole = loses and settings.loss != "ssim"
            only_lost = all(isinstance(step, (Mask, Mosaic)) for step in chain.steps)
            loss_on = "hole" if is_hole and only_lost else "all"
        if loss_on not in _PLACES:
            raise OptionError.unknown("place for loss_on", loss_on, _PLACES)
        if loss_on == "hole" and settings.loss == "ssim":
            raise OptionError(
                "option loss_on: SSIM compares neighbourhoods, not single values",
                got="loss_on hole, loss ssim",
                expected="loss_on all, or loss squared or absolute",
            )
        if loss_on == "hole" and not loses:
            raise OptionError(
                "option loss_on: nothing is lost",
                got=f"loss_on hole, corruption {chain}",
                expected="loss_on all, or a corruption that loses values, such as "
                "mask:box:10",
            )
        return settings.replace(
            corruption=tuple(map(str, chain.steps)), loss_on=loss_on
        )

    @classmethod
    def from_settings(cls, settings: Settings, training: data.Dataset) -> Task:
        *_, channels = training.picture_shape(0)
        return cls(
            channel_names(channels),
            settings.loss or cls.losses[0],
            settings.corruption,
            settings.loss_on or "all",
            # A dense net has weights for every pixel; a mask would double them.
            shows_mask=settings.model != "mlp",
        )

    def examples(self, settings: Settings, splits: data.Splits) -> data.Splits:
        patch = settings.patch or None
        augment = data.parse(settings.augment) if settings.augment else None
        how: dict[str, Any] = {
            "as_inputs": self.inputs,
            "tells_lost": self.loss_on == "hole",
        }
        return data.Splits(
            DamagedPictures(
                splits.train, self.chain, patch=patch, augment=augment, **how
            ),
            DamagedPictures(splits.validation, self.chain, patch=patch, **how),
            DamagedPictures(splits.test, self.chain, **how),
        )

    @property
    def architecture_options(self) -> dict[str, Any]:
        # The first guess is a good start, unless there is a hole in it.
        residual = not self.has_hole
        return {"rescales_outputs": True, "residual": residual}

    def set_statistics(self, model: nn.Module, examples: data.Dataset) -> None:
        assert isinstance(examples, DamagedPictures)
        mean, deviation = picture_statistics(examples.base)
        state = model.state()
        # Further channels are numbers of like size already.
        further = examples.example_shape[-1] - len(mean)
        state["standardize.mean"] = np.append(mean, np.zeros(further, np.float32))
        state["standardize.std"] = np.append(deviation, np.ones(further, np.float32))
        state["units.scale"], state["units.offset"] = deviation, mean
        model.load_state(state)

    def predictor(self, model: nn.Module, architecture: Architecture) -> Restorer:
        return Restorer(model, architecture, self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        channels = self.num_outputs
        truth, lost = targets[..., :channels] / 255, targets[..., channels:]
        restored = outputs / 255
        if self.loss_name == "ssim":
            return nn.losses.ssim(restored, truth, peak=1.0)
        count: Any = float(channels * truth.shape[1] * truth.shape[2])
        if self.loss_on == "hole":
            restored, truth = restored * lost, truth * lost
            # A mask of one channel stands for all of them.
            count = lost.sum() * (channels / lost.shape[-1]) / lost.shape[0]
            count = maximum(count, 1.0)  # where nothing is lost, nothing counts
        return nn.losses.loss(self.loss_name)(restored, truth) / count
