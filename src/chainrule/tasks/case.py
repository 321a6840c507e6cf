"""One example of a run as its network sees it: input, truth, answer, and its error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data
from chainrule.core.graph import as_tensor, no_grad
from chainrule.data.corruptions import Damaged
from chainrule.data.label_maps import LabelledPictures
from chainrule.data.targets import IGNORED
from chainrule.errors import IndexingError
from chainrule.ops import softmax
from chainrule.tasks.picture_report import as_levels
from chainrule.tasks.predictor import Predictor
from chainrule.tasks.restorer import Restorer
from chainrule.tasks.segmenter import Segmenter
from chainrule.tasks.trained import TrainedModel
from chainrule.tasks.words import share_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Case", "case_of", "inputs_of"]

Array = np.ndarray[Any, Any]

_MAX_LINES = 5


@dataclass(frozen=True)
class Case:
    """An example, what the network says of it, and which output is explained.

    Shapes: inputs (h, w, c) or (features,); targets a batch of one.
    """

    inputs: Array
    picture: Array
    """What of it is to be looked at: without masks, for instance."""
    targets: Array
    output: tuple[int, ...]
    target: str
    """The output that is explained, in words."""
    truth: str
    answers: tuple[str, ...]
    """What the network says, line by line."""
    source: str = ""
    """The file that it came from."""


def case_of(model: TrainedModel, dataset: data.Dataset, example: int) -> Case:
    """The example of a number in a data set, as the model is shown it.

    What is explained is the likeliest class or label, the number that is furthest off,
    or, where a picture is put out, the value with the largest error. Of pictures larger
    than those trained on, the middle is shown.

    Raises IndexingError for a number that is not there.
    """
    count = len(dataset)
    if not isinstance(example, (int, np.integer)) or not 0 <= example < count:
        raise IndexingError(
            f"{dataset.name}: no such example",
            got=example,
            expected=f"0 to {count - 1}",
        )
    sources = dataset.sources
    source = sources[example] if sources is not None else ""
    if isinstance(model, Restorer):
        return _restored(model, dataset, int(example), source)
    if isinstance(model, Segmenter):
        return _segmented(model, dataset, int(example), source)
    assert isinstance(model, Predictor)
    return _row(model, dataset, int(example), source)


def inputs_of(
    model: TrainedModel, dataset: data.Dataset, most: int
) -> data.Dataset | Array:
    """The first examples as the model is shown them, all of the size trained on."""
    indices = range(min(most, len(dataset)))
    if not model.architecture.is_dense:
        return dataset.subset(np.arange(len(indices)))
    shown = []
    for i in indices:
        if isinstance(model, Restorer):
            _, damaged = model.examples_of(dataset).damaged([i])
            inputs = model.task.inputs(damaged)
        else:
            inputs = dataset.picture(i)[None].astype(np.float32)
        inputs = _middle(inputs, model.architecture.input_shape)
        if inputs.shape[1:] == model.architecture.input_shape:
            shown.append(inputs[0])
    return np.array(shown)


def _row(model: Predictor, dataset: data.Dataset, example: int, source: str) -> Case:
    inputs, targets = dataset.read(np.array([example])), dataset.targets[[example]]
    outputs = model.outputs(inputs)
    names, told = model.task.names, model.task.probabilities(outputs)[0]
    kind = model.task.name
    if kind == "classify":
        order = np.argsort(-told, kind="stable").tolist()
        chosen, word = order[0], "class"
        truth = names[int(targets[0])]
        answers = [f"{names[i]}: {share_text(told[i])}" for i in order[:_MAX_LINES]]
    elif kind == "label":
        order = np.argsort(-told, kind="stable").tolist()
        chosen, word = order[0], "label"
        present = [names[i] for i in np.flatnonzero(targets[0] > 0.5)]
        truth = ", ".join(present) or "no label"
        answers = [f"{names[i]}: {share_text(told[i])}" for i in order[:_MAX_LINES]]
    else:
        scale = np.asarray(getattr(model.task, "scale", ()) or 1.0)
        wrong = np.abs(outputs[0] - targets[0]) / scale
        chosen, word = int(wrong.argmax()), ""
        pairs = list(zip(names, targets[0].tolist(), outputs[0].tolist(), strict=True))
        truth = _listed([f"{n} {t:.4g}" for n, t, _ in pairs])
        answers = [f"{n}: {p:.4g} (true {t:.4g})" for n, t, p in pairs[:_MAX_LINES]]
    return Case(
        inputs[0],
        inputs[0],
        targets,
        (chosen,),
        f"{word} {names[chosen]}".strip(),
        truth,
        tuple(answers),
        source,
    )


def _listed(words: Sequence[str]) -> str:
    more = f" and {len(words) - _MAX_LINES} more" * (len(words) > _MAX_LINES)
    return ", ".join(words[:_MAX_LINES]) + more


def _restored(
    model: Restorer, dataset: data.Dataset, example: int, source: str
) -> Case:
    from chainrule.restoration import quality  # brings SciPy's filters along

    pictures = model.examples_of(dataset)
    truth, damaged = pictures.damaged([example])
    size = model.architecture.input_shape
    lost = None if damaged.lost is None else _middle(damaged.lost, size)
    part = Damaged(_middle(damaged.pictures, size), lost)
    truth = _middle(truth, size)
    inputs, targets = pictures.as_pairs(truth, part)
    restored = model.outputs(inputs)
    wrong = np.abs(restored - truth)[0]
    row, column, channel = map(int, np.unravel_index(wrong.argmax(), wrong.shape))
    place = f"{model.task.names[channel]} at row {row}, column {column}"
    right, found = truth[0, row, column, channel], restored[0, row, column, channel]
    return Case(
        inputs[0],
        as_levels(part.pictures[0]),
        targets,
        (row, column, channel),
        place,
        f"the undamaged picture, {right:.4g} for {place}",
        (
            f"{found:.4g} for {place}, where its error is largest",
            f"{quality.psnr(truth, np.clip(restored, 0, 255)):.2f} dB as a whole",
        ),
        source,
    )


def _segmented(
    model: Segmenter, dataset: data.Dataset, example: int, source: str
) -> Case:
    whole = dataset
    if not isinstance(dataset, LabelledPictures):
        whole = LabelledPictures(dataset, ignore_label=model.task.ignore_label)
    assert isinstance(whole, LabelledPictures)
    levels, labels = whole.whole([example])
    size = model.architecture.input_shape
    levels = _middle(levels, size).astype(np.float32)
    labels = _middle(labels[..., None], size)[..., 0]
    outputs = model.outputs(levels)
    with no_grad():
        shares = softmax(as_tensor(outputs)).data[0]
    counts = labels[0] != IGNORED
    own = np.where(counts, labels[0], 0)[..., None].astype(np.int64)
    given = np.take_along_axis(shares, own, axis=-1)[..., 0]
    given = np.where(counts, given, np.inf)  # what does not count is not wrong
    row, column = map(int, np.unravel_index(given.argmin(), given.shape))
    said = int(shares[row, column].argmax())
    names, place = model.task.names, f"at row {row}, column {column}"
    true = names[int(own[row, column, 0])] if counts.any() else "no class"
    share = share_text(float(shares[row, column, said]))
    right = (shares.argmax(axis=-1) == labels[0]) & counts
    return Case(
        levels[0],
        as_levels(levels[0]),
        labels,
        (row, column, said),
        f"class {names[said]} {place}",
        f"{true} {place}, the pixel with the largest error",
        (
            f"{names[said]} {place}: {share}",
            f"{100 * right.sum() / max(1, counts.sum()):.2f} % of all pixels right",
        ),
        source,
    )


def _middle(images: Array, shape: Sequence[int]) -> Array:
    """Images (n, h, w, c), of larger ones the middle of the size trained on."""
    top, left = (
        max(0, (size - most) // 2)
        for size, most in zip(images.shape[1:3], shape[:2], strict=True)
    )
    return images[:, top : top + shape[0], left : left + shape[1]]
