"""A trained model that restores pictures, of any size, and is measured by them."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data, nn
from chainrule.core.graph import as_tensor, no_grad
from chainrule.data.corruptions import Damaged
from chainrule.data.damaged import DamagedPictures, mask_channels
from chainrule.data.picture_files import (
    PictureFile,
    read_mask,
    read_picture_file,
    restored_path,
)
from chainrule.errors import DataError, FileError, OptionError, ShapeError
from chainrule.tasks.tally import Tally, batches
from chainrule.tasks.trained import Examined, TrainedModel, check_not_empty

if TYPE_CHECKING:
    from chainrule.tasks.restore import Restore

__all__ = ["RestoredFile", "Restorer"]

Array = np.ndarray[Any, Any]

_PEAK = 255.0
_ANY_FORM = PictureFile(np.zeros((1, 1, 1), np.float32))
_BATCH = 256
_VALIDATION_NUMBERS = 1 << 23
_USUAL_TILE = 256


@dataclass(frozen=True)
class RestoredFile:
    """A picture that was restored, and where; ``notes`` says what was not kept."""

    file: str
    restored: str
    notes: tuple[str, ...] = ()


def _pictures_of(path: Path) -> Iterator[Path]:
    """A file itself, or the pictures in a folder that were not restored by us."""
    if not path.is_dir():
        yield path
        return
    ours = {restored_path(p, _ANY_FORM).stem for p in data.list_pictures(path)}
    yield from (p for p in data.list_pictures(path) if p.stem not in ours)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"cannot make the folder {folder}",
            got=error.strerror or error,
            expected="a place where folders can be made",
        ) from None


class Restorer(TrainedModel):
    """A model that undoes a known kind of damage.

    Args:
        model: the network, statistics included.
        architecture: how the network is built.
        task: the damage, and how it is judged.

    Example:
        >>> import chainrule as cr
        >>> images = cr.data.load().train.read(np.arange(200))
        >>> model = cr.fit(images, task="restore", corruption=("mask:box:4",), epochs=1)
        >>> hole = np.zeros((8, 8), bool)
        >>> hole[2:6, 2:6] = True
        >>> restored = model.restore(np.where(hole[..., None], 0, images[0]), hole)
        >>> restored.shape, bool((restored == images[0])[~hole].all())
        ((8, 8, 1), True)
    """

    task: Restore

    # Restoring.

    def restore(self, picture: Array, mask: Array | None = None) -> Array:
        """One damaged picture restored, in levels of 0 to 255, float32.

        Args:
            picture: levels from 0 to 255, (h, w) or (h, w, c).
            mask: True where something is lost, (h, w) or (h, w, c); needed where the
                model was trained on masks that lie elsewhere in each picture.

        Raises:
            ShapeError: for a mask of another size than the picture, or other channels
                than the model has.
            DataError: where a mask is needed.
            OptionError: for a mask where the model was trained on none.
        """
        levels = np.asarray(picture, np.float32)
        levels = levels[..., None] if levels.ndim == 2 else levels
        channels = self.task.num_outputs
        if levels.ndim != 3 or levels.shape[-1] != channels:
            raise ShapeError(
                "restore: not a picture of the model's channels",
                got=f"an array of shape {np.shape(picture)}",
                expected=f"(h, w, {channels})",
            )
        lost = None
        if mask is not None and not self.mask_channels:
            raise OptionError(
                "restore: a mask means nothing to this model",
                got=f"a mask, a model for {self.task.chain}",
                expected="no mask, or a model trained on masks",
                hint="chainrule train DATA --task restore --corruption mask:strokes",
            )
        if self.mask_channels:
            lost = self._lost(levels.shape, mask)
            levels = np.where(lost[0], np.float32(0), levels)
        restored: Array = self.restored(Damaged(levels[None], lost))[0]
        return restored

    def restore_files(
        self,
        files: Iterable[str | os.PathLike[str]],
        *,
        mask: str | os.PathLike[str] | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> Iterator[RestoredFile]:
        """Restore pictures, each into a file beside it, in the form that it has.

        A colour picture given to a model of grey ones is restored channel by channel, a
        grey one given to a model of colours as one of three equal channels. A model for
        mosaics takes the sensor's grey picture, of one value for each pixel, too.

        Args:
            files: pictures, or folders of them.
            mask: a picture of the same size, white where something is lost.
            folder: where to write instead.

        Raises:
            FileError: for a path that cannot be read or written.
            DataError: for what is no picture, a mask of another size, and where a mask
                is needed.
        """
        if folder is not None:
            _make_folder(Path(folder))
        for name in files:
            # Names are listed first: what is written must not be restored again.
            for file in list(_pictures_of(Path(name))):
                found = read_picture_file(file)
                where = (
                    None if mask is None else read_mask(mask, found.levels.shape[:2])
                )
                target = restored_path(file, found)
                if folder is not None:
                    target = Path(folder) / target.name
                levels = self._restored_levels(found.levels, where)
                form = dataclasses.replace(found, levels=levels)
                form.write(target, levels)
                yield RestoredFile(os.fspath(file), os.fspath(target), found.notes)

    def _restored_levels(self, levels: Array, mask: Array | None) -> Array:
        """The picture of a file, restored by a model of whatever channels."""
        channels, own = levels.shape[-1], self.task.num_outputs
        if channels == own:
            return self.restore(levels, mask)
        if own == 1:
            planes = np.split(levels, channels, axis=-1)
            return np.concatenate([self.restore(p, mask) for p in planes], axis=-1)
        spread = np.broadcast_to(levels, (*levels.shape[:2], own))
        restored = self.restore(spread, mask)
        is_mosaic = self.mask_channels == own and own > 1
        return restored if is_mosaic else restored.mean(axis=-1, keepdims=True)

    @cached_property
    def mask_channels(self) -> int:
        """In how many channels the damage says what is lost; 0 if nothing is."""
        shape = (*self.architecture.input_shape[:2], self.task.num_outputs)
        return mask_channels(self.task.chain, shape)

    def _lost(self, shape: tuple[int, ...], mask: Array | None) -> Array:
        """What is lost of one picture: bool (1, h, w, masks)."""
        height, width, channels = shape
        if mask is None:
            fixed = self.fixed_mask(shape)
            if fixed is None:
                raise DataError(
                    "restore: nothing says what is lost",
                    got=f"a picture without a mask, a model for {self.task.chain}",
                    expected="a mask of the picture's size, white where to restore",
                    hint="--mask FILE",
                )
            return fixed
        lost: Array = np.asarray(mask, bool)
        lost = lost[..., None] if lost.ndim == 2 else lost
        if lost.shape[:2] != (height, width) or lost.shape[-1] not in (1, channels):
            raise ShapeError(
                "restore: the mask has another size than the picture",
                got=f"a mask of {lost.shape[1]}×{lost.shape[0]}, a picture of "
                f"{width}×{height}",
                expected=f"{width}×{height} pixels, white where to restore",
            )
        if self.mask_channels == 1:
            lost = np.asarray(lost.any(axis=-1, keepdims=True))
        return np.broadcast_to(lost, (height, width, self.mask_channels))[None]

    def fixed_mask(self, shape: tuple[int, ...]) -> Array | None:
        """What is lost of every picture of a shape, bool (1, h, w, masks).

        None where nothing is lost, or something else of each picture.
        """
        if not self._loses_alike:
            return None
        blank = np.zeros((1, *shape), np.float32)
        return self.task.chain(blank, data.Keys(0, 0, np.arange(1))).lost

    @cached_property
    def _loses_alike(self) -> bool:
        """Whether the same is lost of every picture."""
        shape = (*self.architecture.input_shape[:2], self.task.num_outputs)
        blank = np.zeros((16, *shape), np.float32)
        lost = self.task.chain(blank, data.Keys(0, 0, np.arange(16))).lost
        return lost is not None and bool((lost == lost[:1]).all())

    def restored(self, damaged: Damaged, tile: int | None = None) -> Array:
        """Damaged pictures restored: clipped, and what was observed put back.

        Shapes: (n, h, w, c) levels -> (n, h, w, c) levels.
        """
        return self._finished(self.network_outputs(damaged, tile), damaged)

    def _finished(self, outputs: Array, damaged: Damaged) -> Array:
        # In place: a large picture is in memory a few times as it is.
        found = np.clip(outputs, 0, _PEAK, out=outputs)
        if damaged.lost is not None and self.task.keeps_observed:
            np.copyto(found, damaged.pictures, where=~damaged.lost)
        return found

    def network_outputs(self, damaged: Damaged, tile: int | None = None) -> Array:
        """What the network itself makes of damaged pictures, large ones in tiles."""
        inputs = self.task.inputs(damaged)
        own = self.architecture.input_shape
        if inputs.shape[1:] == own:
            return self.compiled_outputs(inputs)
        self.check_shape(inputs)
        from chainrule.restoration.tiles import restore_in_tiles  # see tally

        sides = tile if self.receptive_field.is_local else own[:2]
        rows = [
            restore_in_tiles(
                self.compiled_outputs, picture, self.receptive_field, tile=sides
            )
            for picture in inputs
        ]
        return rows[0][None] if len(rows) == 1 else np.stack(rows)

    @cached_property
    def receptive_field(self) -> nn.ReceptiveField:
        """How far the network looks, which is by how much tiles overlap."""
        return nn.receptive_field(self.model, self.architecture.input_shape)

    # Measuring.

    def validation_scores(self, examples: data.Dataset) -> dict[str, Any]:
        """Loss and PSNR of fixed patches, evenly spaced where there are very many."""
        assert isinstance(examples, DamagedPictures)
        shape = examples.example_shape
        step = -(-len(examples) * math.prod(shape) // _VALIDATION_NUMBERS)
        chosen = np.arange(0, len(examples), step)
        tally, losses = Tally(), 0.0
        for indices in np.split(chosen, range(_BATCH, len(chosen), _BATCH)):
            truth, damaged = examples.views(indices, data.Keys(0, 0, indices))
            inputs, targets = examples.as_pairs(truth, damaged)
            outputs = self.compiled_outputs(inputs)
            losses += self._loss(outputs, targets) * len(indices)
            tally.add(truth, self._finished(outputs, damaged), self.hole(damaged))
        return {
            "task": self.task.name,
            "loss": losses / len(chosen),
            **tally.scores(),
            "num_examples": len(chosen),
        }

    def hole(self, damaged: Damaged) -> Array | None:
        """Where PSNR is told apart: what a mask has lost."""
        return damaged.lost if self.task.has_hole else None

    def _loss(self, outputs: Array, targets: Array) -> float:
        with no_grad():
            return float(self.task.loss(as_tensor(outputs), as_tensor(targets)).item())

    def examine(
        self, dataset: data.Dataset, *, tta: int = 0, augment: str = ""
    ) -> Examined:
        """PSNR and SSIM of whole pictures, of the damaged ones, and of baselines."""
        from chainrule.tasks.comparison import compared

        check_not_empty(dataset)
        pictures = self.examples_of(dataset)
        own = self.measured(pictures)
        scores = {"task": self.task.name, **own.scores(), "num_examples": own.count}
        scores.update(compared(self, pictures))
        return Examined(scores, {"pictures": pictures, "measured": own})

    def report_fields(self, found: Examined, test: data.Dataset) -> dict[str, Any]:
        from chainrule.tasks.picture_report import restoration_fields

        return restoration_fields(self, found)

    def examples_of(self, dataset: data.Dataset) -> DamagedPictures:
        """The pictures of a data set, damaged as the task says."""
        if isinstance(dataset, DamagedPictures):
            return dataset
        return DamagedPictures(
            dataset,
            self.task.chain,
            as_inputs=self.task.inputs,
            tells_lost=self.task.loss_on == "hole",
        )

    def measured(self, pictures: DamagedPictures) -> Tally:
        """How near whole pictures, restored, come to the truth."""
        tally = Tally()
        tile = self.tile_for(pictures)
        for truth, damaged in batches(pictures):
            restored = self.restored(damaged, tile)
            tally.add(truth, restored, self.hole(damaged), with_ssim=True)
        return tally

    def tile_for(self, pictures: DamagedPictures) -> int | None:
        """One size of tiles that most pictures have, so that code is compiled once."""
        field = self.receptive_field
        if not field.is_local:
            return None
        base = pictures.base
        sides = [min(base.picture_shape(i)[:2]) for i in range(len(base))]
        overlap = max(a + b for a, b in zip(field.before, field.after, strict=True))
        usual = max(_USUAL_TILE, 4 * overlap)
        least = overlap + 2 * max(field.multiple)
        return max(least, min(usual, int(np.median(sides))))
