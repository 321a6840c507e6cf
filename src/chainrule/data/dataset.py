"""What a data set is: inputs that are read on demand, targets that are at hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np

from chainrule.data.targets import as_label_maps, as_targets, presence
from chainrule.data.transforms import Keys
from chainrule.errors import DataError, IndexingError, counted

__all__ = ["Array", "ArrayDataset", "Dataset", "Facts", "arrays"]

Array = np.ndarray[Any, Any]

_CHUNK_BYTES = 1 << 24


class Facts(TypedDict, total=False):
    """What is known of the examples besides inputs and targets."""

    name: str
    class_names: Sequence[str] | None
    target_names: Sequence[str] | None
    sources: Sequence[str] | None
    groups: Array | None
    problems: Sequence[str]
    picture_sizes: dict[str, int] | None


class Dataset(ABC):
    """Examples of which the inputs may be larger than memory.

    ``targets`` are always in memory: int64 (n,) for classes, float32 (n, k) of 0 and 1
    for labels, float32 (n, k) for numbers. ``class_names`` is None for numbers, whose
    columns ``target_names`` names. ``sources`` holds the file name of each example and
    ``groups`` whom it belongs to, where known; ``problems`` lists the files that were
    left out; ``picture_sizes`` counts the sizes that pictures had before resizing.
    """

    def __init__(
        self, example_shape: Sequence[int], targets: Array, **facts: Unpack[Facts]
    ) -> None:
        class_names = facts.get("class_names")
        target_names = facts.get("target_names")
        self.name: str = facts.get("name", "arrays")
        self.example_shape: tuple[int, ...] = tuple(map(int, example_shape))
        self.targets = targets
        self.class_names = None if class_names is None else tuple(class_names)
        self.target_names = None if target_names is None else tuple(target_names)
        self.sources: Sequence[str] | None = facts.get("sources")
        self.groups = facts.get("groups")
        self.problems: list[str] = list(facts.get("problems", ()))
        self.picture_sizes = facts.get("picture_sizes")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def is_in_memory(self) -> bool:
        """Whether reading a batch is a mere copy, not worth a thread."""
        return False

    @property
    def is_array(self) -> bool:
        """Whether pixels are at hand, in memory or mapped, and nothing is decoded."""
        return True

    @property
    def inputs(self) -> Array | None:
        """All examples of the collection that this is of, if in memory in one array.

        ``places`` says which rows are this data set's; numbers may be of any type.
        """
        return None

    def places(self, indices: Array) -> Array:
        """The rows of ``inputs`` where these examples stand."""
        return indices

    @abstractmethod
    def read(self, indices: Array) -> Array:
        """The inputs of these examples: uint8 (n, h, w, c), or float32."""

    def pairs(self, indices: Array, keys: Keys) -> tuple[Array, Array]:
        """Inputs and targets of these examples, as an epoch shows them.

        What is drawn at random, a patch of a picture or how it is damaged, depends on
        the keys alone; most data sets draw nothing.
        """
        return self.read(indices), self.targets[indices]

    @property
    def has_one_size(self) -> bool:
        """Whether all pictures have the size that ``example_shape`` says."""
        return True

    def picture_shape(self, index: int) -> tuple[int, ...]:
        """Height, width and channels of one whole picture."""
        return self.example_shape

    def picture(self, index: int) -> Array:
        """One whole picture (h, w, c) in its own size."""
        found: Array = self.read(np.array([index]))[0]
        return found

    @property
    def has_label_maps(self) -> bool:
        """Whether there is a class for every pixel; ``targets`` say which occur."""
        return False

    def label_map(self, index: int) -> Array:
        """The class of every pixel of one whole picture: uint8 (h, w).

        Raises: DataError for data without label maps.
        """
        raise DataError(
            f"{self.name}: no label maps",
            got="pictures without a class for every pixel",
            expected="pairs of pictures and label maps",
            hint="folders images/ and labels/, or task='segment'",
        )

    def subset(self, indices: Sequence[int] | Array) -> Dataset:
        """The examples at ``indices``, in that order, without a copy of their inputs.

        Example:
            >>> import numpy as np
            >>> images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1)
            >>> last = arrays(images, [0, 1, 0, 1, 0]).subset([4, 3])
            >>> last.read(np.array([0])).item(), last.targets.tolist()
            (4, [0, 1])
        """
        return _Subset(self, np.asarray(indices, dtype=np.int64).reshape(-1))

    def __repr__(self) -> str:
        kind = (
            "numbers"
            if self.class_names is None
            else f"{len(self.class_names)} classes"
        )
        shape = "×".join(map(str, self.example_shape))
        return f"<Dataset {self.name}: {len(self)} × {shape}, {kind}>"


class _Subset(Dataset):
    """Some examples of another data set."""

    def __init__(self, base: Dataset, indices: Array) -> None:
        if len(indices) and (indices.min() < 0 or indices.max() >= len(base)):
            raise IndexingError(
                f"subset: an index outside the data set {base.name!r}",
                got=f"indices from {indices.min()} to {indices.max()}",
                expected=f"0 to {len(base) - 1}",
            )
        if isinstance(base, _Subset):
            indices, base = base._indices[indices], base._base
        self._base: Dataset = base
        self._indices: Array = indices
        sources = base.sources
        super().__init__(
            base.example_shape,
            base.targets[indices],
            name=base.name,
            class_names=base.class_names,
            target_names=base.target_names,
            sources=None if sources is None else [sources[i] for i in indices.tolist()],
            groups=None if base.groups is None else base.groups[indices],
            problems=base.problems,
            picture_sizes=base.picture_sizes,
        )

    @property
    def is_in_memory(self) -> bool:
        return self._base.is_in_memory

    @property
    def is_array(self) -> bool:
        return self._base.is_array

    @property
    def inputs(self) -> Array | None:
        return self._base.inputs

    def places(self, indices: Array) -> Array:
        return self._base.places(self._indices[indices])

    def read(self, indices: Array) -> Array:
        return self._base.read(self._indices[indices])

    @property
    def has_one_size(self) -> bool:
        return self._base.has_one_size

    def picture_shape(self, index: int) -> tuple[int, ...]:
        return self._base.picture_shape(int(self._indices[index]))

    def picture(self, index: int) -> Array:
        return self._base.picture(int(self._indices[index]))

    @property
    def has_label_maps(self) -> bool:
        return self._base.has_label_maps

    def label_map(self, index: int) -> Array:
        return self._base.label_map(int(self._indices[index]))


class ArrayDataset(Dataset):
    """Examples in one array, in memory or memory-mapped.

    Shapes: inputs (n, h, w) or (n, h, w, c) for pictures, (n, features) for vectors;
    label maps, where there are any, (n, h, w).

    Dtype: uint8 stays uint8; every other number type is read as float32.

    Raises: DataError where lengths differ, a shape is no picture and no vector, or a
    value is NaN or infinite.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Array,
        label_maps: Array | None = None,
        **facts: Unpack[Facts],
    ) -> None:
        name = facts.get("name", "arrays")
        inputs = _as_inputs(inputs, name)
        if len(inputs) != len(targets):
            raise DataError(
                f"{name}: inputs and targets have different lengths",
                got=f"{counted(len(inputs), 'input')}, "
                f"{counted(len(targets), 'target')}",
                expected="one target for each input",
            )
        _check_finite(inputs, name)
        if label_maps is not None and label_maps.shape != inputs.shape[:3]:
            raise DataError(
                f"{name}: label maps of another size than the pictures",
                got=f"pictures {inputs.shape}, label maps {label_maps.shape}",
                expected=f"label maps of shape {inputs.shape[:3]}",
            )
        super().__init__(inputs.shape[1:], targets, **facts)
        self._label_maps = label_maps
        self._is_mapped = isinstance(inputs, np.memmap)
        # The plain view of a map gathers as fast as an array; the subclass does not.
        self._inputs = inputs.view(np.ndarray)

    @property
    def is_in_memory(self) -> bool:
        return not self._is_mapped

    @property
    def inputs(self) -> Array | None:
        return None if self._is_mapped else self._inputs

    @property
    def has_label_maps(self) -> bool:
        return self._label_maps is not None

    def label_map(self, index: int) -> Array:
        if self._label_maps is None:
            return super().label_map(index)
        found: Array = self._label_maps[index]
        return found

    def read(self, indices: Array) -> Array:
        found: Array = self._inputs.take(indices, axis=0)
        return (
            found if found.dtype == np.uint8 else found.astype(np.float32, copy=False)
        )


def arrays(
    inputs: Any,
    targets: Any,
    *,
    task: str = "classify",
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    groups: Any = None,
    sources: Sequence[str] | None = None,
) -> Dataset:
    """A data set of arrays that the caller already has.

    Classes may be integers from 0, names, or one-hot rows; labels are rows of 0 and 1;
    numbers are one column or several. To segment, targets are label maps (n, h, w):
    classes from 0, and 255 for pixels that do not count.

    Example:
        >>> import numpy as np
        >>> a = arrays(np.zeros((3, 8, 8), np.uint8), ["cat", "dog", "cat"])
        >>> a.example_shape, a.class_names, a.targets.tolist()
        ((8, 8, 1), ('cat', 'dog'), [0, 1, 0])
    """
    maps: Array | None = None
    names: tuple[str, ...] | None
    if task == "segment":
        maps = as_label_maps(targets, name)
        found, names = presence(maps, class_names, name)
    else:
        found, names = as_targets(targets, task, class_names, name)
    members = None if groups is None else np.asarray(groups)
    for kind, column in (("group", members), ("source", sources)):
        if column is not None and len(column) != len(found):
            raise DataError(
                f"{name}: {kind}s and targets have different lengths",
                got=f"{counted(len(column), kind)}, {counted(len(found), 'target')}",
                expected=f"one of the {kind}s for each target",
            )
    return ArrayDataset(
        inputs,
        found,
        maps,
        name=name,
        class_names=names,
        sources=sources,
        groups=members,
    )


def _as_inputs(inputs: Any, name: str) -> Array:
    try:
        array = inputs if isinstance(inputs, np.ndarray) else np.asarray(inputs)
    except ValueError:
        raise DataError(
            f"{name}: inputs of unequal lengths",
            got="nested lists that do not line up",
            expected="examples of one shape",
        ) from None
    if array.dtype.kind not in "uifb":
        raise DataError(
            f"{name}: inputs are not numbers",
            got=f"an array of {array.dtype}",
            expected="uint8 pictures, or numbers",
        )
    if array.ndim not in (2, 3, 4) or 0 in array.shape[1:]:
        raise DataError(
            f"{name}: inputs are neither pictures nor vectors",
            got=f"shape {array.shape}",
            expected="(n, h, w), (n, h, w, c) or (n, features)",
            hint="one example alone needs a leading axis: x[None]",
        )
    if array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] > 4:
        raise DataError(
            f"{name}: channels come before rows",
            got=f"shape {array.shape}",
            expected="(n, h, w, c)",
            hint="images.transpose(0, 2, 3, 1)",
        )
    return array[..., None] if array.ndim == 3 else array


def _check_finite(inputs: Array, name: str) -> None:
    """Refuse NaN and infinity, looking at one chunk at a time."""
    if inputs.dtype.kind != "f" or not len(inputs):
        return
    rows = max(1, _CHUNK_BYTES // max(1, inputs[0].nbytes))
    for start in range(0, len(inputs), rows):
        chunk = inputs[start : start + rows]
        is_bad = ~np.isfinite(chunk).reshape(len(chunk), -1)
        if is_bad.any():
            row, column = map(int, np.argwhere(is_bad)[0])
            position = tuple(map(int, np.unravel_index(column, inputs.shape[1:])))
            raise DataError(
                f"{name}: NaN or infinity in the inputs",
                got=f"{chunk.reshape(len(chunk), -1)[row, column]} in example "
                f"{start + row} at {position}",
                expected="finite numbers",
                hint="leave the example out, or put a number there",
            )
