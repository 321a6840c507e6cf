"""A trained model that says of every pixel what it belongs to."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import as_tensor, no_grad
from chainrule.data.label_maps import LabelledPictures, write_label_map
from chainrule.data.targets import IGNORED
from chainrule.errors import DataError, OptionError, ShapeError
from chainrule.tasks.predictor import Prediction
from chainrule.tasks.trained import Examined, TrainedModel, check_not_empty
from chainrule.training.metrics import confusion_matrix, intersection_over_union

if TYPE_CHECKING:
    from chainrule.tasks.segment import Segment

__all__ = ["Segmenter"]

Array = np.ndarray[Any, Any]

_BATCH = 64
_BATCH_PIXELS = 1 << 18
"""Of the pictures of a batch, at most: a network makes many times as many numbers."""
_VALIDATION_PIXELS = 1 << 22


@dataclass
class Confusions:
    """How often each true class was taken for each, and the accuracy by picture."""

    counts: Array
    accuracies: list[float] = field(default_factory=list)

    def add(self, predicted: Array, labels: Array) -> None:
        """Count pictures (n, h, w); pixels with the label 255 do not count."""
        counts = labels != IGNORED
        self.counts += confusion_matrix(
            predicted[counts], labels[counts], len(self.counts)
        )
        right = ((predicted == labels) & counts).sum(axis=(1, 2))
        each = counts.sum(axis=(1, 2))
        self.accuracies += np.where(each, right / np.maximum(each, 1), 1.0).tolist()

    def scores(self) -> dict[str, float]:
        """Mean IoU over the classes that occur, and the share of right pixels."""
        found = intersection_over_union(self.counts)
        occurring = found[~np.isnan(found)]
        total = max(1, int(self.counts.sum()))
        return {
            "mean_iou": float(occurring.mean()) if occurring.size else 0.0,
            "pixel_accuracy": float(np.trace(self.counts) / total),
        }


class Segmenter(TrainedModel):
    """A model that puts out a score for each class at every pixel.

    Args:
        model: the network, statistics included.
        architecture: how the network is built.
        task: what the classes are, and how outputs are judged.

    Example:
        >>> import chainrule as cr
        >>> pictures = cr.data.load().train.read(np.arange(200))
        >>> bright = (pictures[..., 0] > 128).astype("uint8")
        >>> model = cr.fit(pictures, bright, task="segment", epochs=1, depth=1)
        >>> model.segment(pictures[0]).shape
        (8, 8)
    """

    task: Segment

    def segment(self, picture: Array) -> Array:
        """The class of every pixel, uint8 (h, w), of a picture of any size.

        Args:
            picture: uint8, or levels from 0 to 255, (h, w) or (h, w, c).

        Raises:
            ShapeError: for a picture of other channels than the model's.
        """
        levels = np.asarray(picture)
        levels = levels[..., None] if levels.ndim == 2 else levels
        if levels.ndim != 3 or levels.shape[-1] != self.architecture.input_shape[-1]:
            raise ShapeError(
                "segment: not a picture of the model's channels",
                got=f"an array of shape {np.shape(picture)}",
                expected=f"(h, w, {self.architecture.input_shape[-1]})",
            )
        found: Array = self.classes(levels[None])[0]
        return found

    def classes(self, pictures: Array) -> Array:
        """The class of every pixel of pictures of one size: (n, h, w, c) -> (n, h, w).

        Pictures of the training examples' size go through the network as they are,
        others in tiles.
        """
        if pictures.shape[1:] == self.architecture.input_shape:
            return _likeliest(self.compiled_outputs(pictures))[..., 0]
        # It brings SciPy's filters along, which training never needs.
        from chainrule.restoration.tiles import restore_in_tiles

        own = self.architecture.input_shape[:2]
        if self.receptive_field.is_local:
            maps = [
                restore_in_tiles(
                    lambda tile: _likeliest(self.compiled_outputs(tile)),
                    picture,
                    self.receptive_field,
                )
                for picture in pictures
            ]
        else:
            maps = [
                _likeliest(
                    restore_in_tiles(
                        self.compiled_outputs,
                        picture,
                        self.receptive_field,
                        tile=own,
                    )
                )
                for picture in pictures
            ]
        return np.stack(maps)[..., 0].astype(np.uint8)

    @cached_property
    def receptive_field(self) -> nn.ReceptiveField:
        """How far the network looks, which is by how much tiles overlap."""
        return nn.receptive_field(self.model, self.architecture.input_shape)

    # Files.

    def predict_files(
        self,
        files: Iterable[str | os.PathLike[str]],
        *,
        crop: tuple[int, int, int, int] | None = None,
        top: int = 5,
    ) -> Iterator[Prediction]:
        """Label maps for pictures and for the pictures inside folders, in order.

        Each is written beside its picture, ``street.jpg`` as ``street-labels.png``, a
        palette whose places are the numbers of the classes.

        Raises:
            OptionError: for a crop, which label maps are not made of.
        """
        if crop is not None:
            raise OptionError(
                "segment: a label map is of a whole picture",
                got=f"crop {crop}",
                expected="no crop",
            )
        for name in files:
            found = data.list_pictures(name) if Path(name).is_dir() else [Path(name)]
            for file in found:
                if not file.stem.endswith("-labels"):
                    yield self._predict_file(file)

    def _predict_file(self, file: Path) -> Prediction:
        from chainrule.data.picture_files import read_picture_file

        levels = read_picture_file(file).levels
        channels = self.architecture.input_shape[-1]
        if levels.shape[-1] != channels:
            levels = _in_channels(levels, channels)
        classes = self.segment(np.rint(levels))
        target = file.with_name(f"{file.stem}-labels.png")
        write_label_map(target, classes)
        counts = np.bincount(classes.reshape(-1), minlength=self.task.num_outputs)
        order = np.argsort(-counts, kind="stable").tolist()
        shares = [
            (self.task.names[i], float(counts[i] / classes.size))
            for i in order
            if counts[i]
        ]
        return Prediction(os.fspath(file), labels=shares, label_map=os.fspath(target))

    # Measuring.

    def validation_scores(self, examples: data.Dataset) -> dict[str, Any]:
        """Loss and scores of fixed patches, evenly spaced where there are many."""
        assert isinstance(examples, LabelledPictures)
        pixels = math.prod(examples.example_shape[:2])
        step = -(-len(examples) * pixels // _VALIDATION_PIXELS)
        chosen = np.arange(0, len(examples), step)
        confusions, losses = self._nothing(), 0.0
        for indices in np.split(chosen, range(_BATCH, len(chosen), _BATCH)):
            inputs, labels = examples.pairs(indices, data.Keys(0, 0, indices))
            outputs = self.compiled_outputs(inputs)
            with no_grad():
                loss = self.task.loss(as_tensor(outputs), as_tensor(labels)).item()
            losses += float(loss) * len(indices)
            confusions.add(_likeliest(outputs)[..., 0], labels)
        return {
            "task": self.task.name,
            "loss": losses / len(chosen),
            **confusions.scores(),
            "num_examples": len(chosen),
        }

    def examine(
        self, dataset: data.Dataset, *, tta: int = 0, augment: str = ""
    ) -> Examined:
        """Mean IoU, the IoU of each class and accuracy, of whole pictures."""
        check_not_empty(dataset)
        self._check_classes(dataset)
        pictures = dataset
        if not isinstance(dataset, LabelledPictures):
            pictures = LabelledPictures(dataset, ignore_label=self.task.ignore_label)
        assert isinstance(pictures, LabelledPictures)
        confusions = self._nothing()
        for indices in _batches(pictures.base):
            levels, labels = pictures.whole(indices)
            confusions.add(self.classes(levels), labels)
        each = intersection_over_union(confusions.counts).tolist()
        scores = {
            "task": self.task.name,
            **confusions.scores(),
            "iou": {
                name: None if math.isnan(value) else value
                for name, value in zip(self.task.names, each, strict=True)
            },
            "num_examples": len(pictures.base),
        }
        return Examined(scores, {"pictures": pictures, "confusions": confusions})

    def report_fields(self, found: Examined, test: data.Dataset) -> dict[str, Any]:
        from chainrule.tasks.segmentation_report import segmentation_fields

        return segmentation_fields(self, found)

    def _nothing(self) -> Confusions:
        count = self.task.num_outputs
        return Confusions(np.zeros((count, count), np.int64))

    def _check_classes(self, dataset: data.Dataset) -> None:
        names, own = dataset.class_names or (), self.task.names
        # Classes without names, of which the last ones need not occur, are numbers.
        if names == own[: len(names)]:
            return
        raise DataError(
            f"{dataset.name}: other classes than those that the model has learned",
            got=", ".join(names),
            expected=", ".join(own),
        )


def _likeliest(scores: Array) -> Array:
    """(n, h, w, k) scores, the class with the highest as (n, h, w, 1)."""
    return scores.argmax(axis=-1).astype(np.uint8)[..., None]


def _in_channels(levels: Array, channels: int) -> Array:
    if channels == 3:
        return np.repeat(levels, 3, axis=-1)
    # What Pillow and television take for the brightness of a colour.
    luma = levels @ np.array([[0.299], [0.587], [0.114]], np.float32)
    return np.asarray(luma, np.float32)


def _batches(base: data.Dataset) -> Iterator[Array]:
    """Numbers of whole pictures: many small ones of one size at a time."""
    size = 1
    if base.has_one_size:
        fitting = _BATCH_PIXELS // math.prod(base.example_shape[:2])
        size = min(_BATCH, max(1, fitting))
    for start in range(0, len(base), size):
        yield np.arange(start, min(start + size, len(base)))
