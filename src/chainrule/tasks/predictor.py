"""A trained model that says what pictures show: pictures in, answers out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data
from chainrule.errors import DataError, ShapeError
from chainrule.tasks.trained import Examined, TrainedModel, check_not_empty

if TYPE_CHECKING:
    from chainrule.tasks.rows import RowTask

__all__ = ["Prediction", "Predictor"]

Array = np.ndarray[Any, Any]

_EVALUATION_BATCH = 256
_EVALUATION_NUMBERS = 1 << 22
"""Of the inputs of a batch, at most: a network makes many times as many of them."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture; the field of its task is filled.

    ``classes`` are (name, probability), the likeliest first; ``labels`` those with a
    probability above one half; ``values`` the predicted numbers by name. ``label_map``
    is a file that was written, with the class of every pixel; ``labels`` are then the
    shares of pixels that classes have.
    """

    file: str | None
    classes: list[tuple[str, float]] = field(default_factory=list)
    labels: list[tuple[str, float]] = field(default_factory=list)
    values: dict[str, float] = field(default_factory=dict)
    label_map: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The file and the filled field, for JSON."""
        told: dict[str, Any] = {"file": self.file}
        if self.label_map is not None:
            return {**told, "label_map": self.label_map, "shares": dict(self.labels)}
        if self.values:
            return {**told, "values": self.values}
        kind, pairs = (
            ("class", self.classes) if self.classes else ("label", self.labels)
        )
        rows = [{kind: name, "probability": share} for name, share in pairs]
        return {**told, "classes" if self.classes else "labels": rows}


class Predictor(TrainedModel):
    """A model that puts out rows of numbers, with its preprocessing, sizes and names.

    Args:
        model: the network, statistics included.
        architecture: how the network is built.
        task: how its outputs are read.

    Example:
        >>> import chainrule as cr
        >>> digits = cr.data.load()
        >>> model = cr.fit(digits.train, epochs=1, hidden=(16,), seed=0)
        >>> len(model.predict(digits.test.read(np.array([0]))[0]).classes)
        5
    """

    task: RowTask

    def dataset_outputs(
        self, dataset: data.Dataset, *, tta: int = 0, augment: str = ""
    ) -> Array:
        """Outputs for a whole data set, read in batches, by native code where it can.

        With ``tta`` > 0 the outputs are averaged over the pictures and that many copies
        of them, changed by ``augment`` (test-time augmentation).
        """
        parts = []
        transform = data.parse(augment) if tta else None
        fitting = _EVALUATION_NUMBERS // math.prod(self.architecture.input_shape)
        size = min(_EVALUATION_BATCH, max(1, fitting))
        for start in range(0, len(dataset), size):
            indices = np.arange(start, min(start + size, len(dataset)))
            inputs = dataset.read(indices)
            total = self.compiled_outputs(inputs)
            for copy in range(tta):
                assert transform is not None
                changed = transform(
                    inputs, data.Keys(seed=0, epoch=copy, indices=indices)
                )
                total = total + self.compiled_outputs(changed)
            parts.append(total / (1 + tta))
        return np.concatenate(parts)

    def predict(
        self,
        picture: str | os.PathLike[str] | Array,
        *,
        crop: tuple[int, int, int, int] | None = None,
        top: int = 5,
    ) -> Prediction:
        """What the model says of one picture.

        Args:
            picture: a file, or an array (h, w), (h, w, c) of 0 to 255, or the vector
                that the model was trained on. A model of arrays that were no pixels
                takes such arrays only.
            crop: x, y, width, height of the part to look at, in pixels.
            top: how many classes to name.

        Raises:
            DataError: for what is no picture, or a picture where numbers are needed.
        """
        if isinstance(picture, (str, os.PathLike)):
            height, width, channels = self._picture_shape()
            inputs = data.read_picture(picture, (height, width), channels, crop=crop)
            return self.read(self.outputs(inputs[None])[0], os.fspath(picture), top)
        inputs, shape = np.asarray(picture), self.architecture.input_shape
        if (*inputs.shape, 1) == shape:  # a grey picture needs no axis of channels
            inputs = inputs[..., None]
        is_scaled = not self.architecture.takes_pixels or inputs.dtype == np.uint8
        is_ready = inputs.shape == shape and (is_scaled or len(shape) == 1)
        if not is_ready or crop is not None:
            height, width, channels = self._picture_shape()
            inputs = data.form_picture(inputs, (height, width), channels, crop)
        return self.read(self.outputs(inputs[None])[0], None, top)

    def _picture_shape(self) -> tuple[int, int, int]:
        shape = self.architecture.input_shape
        if len(shape) != 3:
            raise ShapeError(
                "predict: the model was trained on vectors, not on pictures",
                got="a picture",
                expected=f"{shape[0]} numbers",
            )
        if not self.architecture.takes_pixels:
            raise DataError(
                "predict: the model was trained on numbers, not on pixels",
                got="a picture",
                expected=f"an array of shape {shape}, scaled like the training data",
                hint="train on uint8 pixels of 0 to 255 to predict pictures",
            )
        return shape[0], shape[1], shape[2]

    def predict_files(
        self,
        files: Iterable[str | os.PathLike[str]],
        *,
        crop: tuple[int, int, int, int] | None = None,
        top: int = 5,
    ) -> Iterator[Prediction]:
        """Predictions for pictures and for the pictures inside folders, in order."""
        for name in files:
            for file in data.list_pictures(name) if Path(name).is_dir() else [name]:
                yield self.predict(file, crop=crop, top=top)

    def read(self, output: Array, file: str | None = None, top: int = 5) -> Prediction:
        """One row of outputs as a person reads it."""
        numbers = self.task.probabilities(output[None])[0]
        pairs = [(n, float(v)) for n, v in zip(self.task.names, numbers, strict=True)]
        if self.task.name == "regress":
            return Prediction(file, values=dict(pairs))
        ranked = sorted(pairs, key=lambda pair: -pair[1])
        if self.task.name == "label":
            return Prediction(file, labels=[p for p in ranked if p[1] > 0.5])
        return Prediction(file, classes=ranked[:top])

    def validation_scores(self, examples: data.Dataset) -> dict[str, Any]:
        return self.evaluate(examples)

    def examine(
        self, dataset: data.Dataset, *, tta: int = 0, augment: str = ""
    ) -> Examined:
        self._check_examples(dataset)
        outputs = self.dataset_outputs(dataset, tta=tta, augment=augment)
        scores = self.task.evaluate(outputs, dataset.targets)
        told = {"task": self.task.name, **scores, "num_examples": len(dataset)}
        return Examined(told, {"outputs": outputs})

    def report_fields(self, found: Examined, test: data.Dataset) -> dict[str, Any]:
        from chainrule.tasks.row_report import row_fields  # only for a finished run

        return row_fields(self.task, found.shown["outputs"], test)

    def _check_examples(self, dataset: data.Dataset) -> None:
        """Raise DataError where scores would mean nothing."""
        check_not_empty(dataset)
        names, own = dataset.class_names, self.task.names
        # Classes without names, of which the last ones need not occur, are numbers.
        numbers = tuple(map(str, range(len(own))))
        if names in (None, own) or names == numbers[: len(names or ())]:
            return
        raise DataError(
            f"{dataset.name}: other classes than those that the model has learned",
            got=", ".join(names or ()),
            expected=", ".join(own),
            hint="were class folders renamed, added or removed since it was trained?",
        )
