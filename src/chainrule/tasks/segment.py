"""Segmenting: a class for every pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import Tensor
from chainrule.data.label_maps import LabelledPictures
from chainrule.data.targets import IGNORED
from chainrule.errors import OptionError
from chainrule.tasks.architecture import Architecture
from chainrule.tasks.dense import PictureTask
from chainrule.tasks.segmenter import Segmenter
from chainrule.tasks.settings import Settings
from chainrule.tasks.statistics import picture_statistics
from chainrule.tasks.task import Task

__all__ = ["Segment"]

_BALANCED = "balanced"


@dataclass(frozen=True)
class Segment(PictureTask):
    """Say of every pixel what it belongs to.

    Args:
        class_weights: how much a pixel of each class counts in the loss; empty for
            equal weights.
        ignore_label: a number in label maps that does not count, beside 255.
    """

    class_weights: tuple[float, ...] = ()
    ignore_label: int = IGNORED

    name = "segment"
    losses = ("softmax",)
    monitor = "mean_iou"
    scores_shown = ("mean_iou", "pixel_accuracy")
    # What something is, its surroundings tell.
    usual_patch = 64
    # Classes are the same in any light, so exact levels need not go through.
    normalizes = True
    own_options = ("class_weights", "ignore_label", *PictureTask.own_options)

    @classmethod
    def default_model(cls, settings: Settings, training: data.Dataset) -> str:
        return "mlp" if settings.hidden is not None else "unet"

    @classmethod
    def resolved_further(cls, settings: Settings, training: data.Dataset) -> Settings:
        names = training.class_names or ()
        if settings.model == "dncnn":
            raise OptionError(
                "model dncnn adds its outputs to a picture",
                got="model dncnn, task segment",
                expected="unet, encoder_decoder or mlp, whose outputs are scores",
            )
        if settings.ignore_label not in range(IGNORED + 1):
            raise OptionError(
                "option ignore_label: no number of a label map",
                got=settings.ignore_label,
                expected=f"0 to {IGNORED}",
            )
        text = settings.class_weights
        if text == _BALANCED:
            weights = balanced_weights(training, settings.ignore_label)
            text = ",".join(f"{w:.4g}" for w in weights)
        if text:
            _weights_in(text, len(names))
        return settings.replace(class_weights=text)

    @classmethod
    def from_settings(cls, settings: Settings, training: data.Dataset) -> Task:
        names = tuple(training.class_names or ())
        text = settings.class_weights
        return cls(
            names,
            settings.loss or cls.losses[0],
            _weights_in(text, len(names)) if text else (),
            settings.ignore_label,
        )

    def examples(self, settings: Settings, splits: data.Splits) -> data.Splits:
        patch = settings.patch or None
        augment = data.parse(settings.augment) if settings.augment else None
        ignored = self.ignore_label
        return data.Splits(
            LabelledPictures(
                splits.train, patch=patch, augment=augment, ignore_label=ignored
            ),
            LabelledPictures(splits.validation, patch=patch, ignore_label=ignored),
            LabelledPictures(splits.test, ignore_label=ignored),
        )

    @property
    def architecture_options(self) -> dict[str, Any]:
        return {"normalized": self.normalizes}

    def set_statistics(self, model: nn.Module, examples: data.Dataset) -> None:
        assert isinstance(examples, LabelledPictures)
        state = model.state()
        mean, deviation = picture_statistics(examples.base)
        state["standardize.mean"], state["standardize.std"] = mean, deviation
        model.load_state(state)

    def predictor(self, model: nn.Module, architecture: Architecture) -> Segmenter:
        return Segmenter(model, architecture, self)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.pixel_cross_entropy(
            outputs,
            targets,
            class_weights=self.class_weights or None,
            ignore_label=IGNORED,
        )


def balanced_weights(training: data.Dataset, ignore_label: int) -> list[float]:
    """Weights with which every class counts as much: all pixels / (classes · its own).

    A class without a pixel has weight 0.

    Source: King & Zeng, "Logistic regression in rare events data", 2001, section 4.2.
    """
    counts = np.zeros(IGNORED + 1, np.int64)
    for index in range(len(training)):
        labels = training.label_map(index).reshape(-1)
        counts += np.bincount(labels, minlength=IGNORED + 1)
    counts[ignore_label] = 0
    counts = counts[: len(training.class_names or ())]
    present = counts > 0
    share = counts.sum() / max(1, int(present.sum()))
    return [float(share / n) if n else 0.0 for n in counts.tolist()]


def _weights_in(text: str, num_classes: int) -> tuple[float, ...]:
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != num_classes or not all(0 <= w < math.inf for w in weights):
        raise OptionError(
            "option class_weights: not a weight for each class",
            got=repr(text),
            expected=f"{num_classes} numbers from 0, joined by commas, or {_BALANCED}",
        )
    return weights
