"""What a classifier takes for what, with the pictures of its mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import data
from chainrule.errors import ShapeError, counted
from chainrule.explanation.features.attribution import shown
from chainrule.explanation.features.layers import read
from chainrule.explanation.picture import INK, VALUE, Picture, bare
from chainrule.training.metrics import confusion_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Confusions", "Pair", "confused_pairs", "confusions"]

Array = np.ndarray[Any, Any]

_MAX_PAIRS = 4  # that are shown with pictures
_MAX_EXAMPLES = 5  # of each of them
_MAX_NUMBERS = 12  # classes whose cells have room for their counts


@dataclass(frozen=True)
class Pair:
    """A true class and what it was taken for, how often, and how often of its own."""

    true: int
    predicted: int
    count: int
    share: float


@dataclass(frozen=True)
class Confusions(Picture):
    """A confusion matrix, counts (true class, predicted class), and its worst cells."""

    counts: Array
    names: tuple[str, ...]
    examples: tuple[tuple[Pair, tuple[Array, ...]], ...] = ()
    """Pictures of the most frequent mistakes."""

    @property
    def pairs(self) -> list[Pair]:
        return confused_pairs(self.counts)

    def __str__(self) -> str:
        total, right = int(self.counts.sum()), int(np.trace(self.counts))
        told = [
            f"{right:,} of {counted(total, 'example')} right "
            f"({100 * right / max(1, total):.2f} %)"
        ]
        for pair in self.pairs[:_MAX_PAIRS]:
            told.append(
                f"  {self.names[pair.true]} taken for {self.names[pair.predicted]}: "
                f"{counted(pair.count, 'time')}, {100 * pair.share:.1f} % of its class"
            )
        return "\n".join(told)

    def figure(self) -> Figure:
        from matplotlib.figure import Figure

        rows = self.examples
        figure = Figure(figsize=(5.4 + (3.4 if rows else 0), 5.2), layout="constrained")
        parts = figure.add_gridspec(
            max(1, len(rows)), 1 + _MAX_EXAMPLES * bool(rows),
            width_ratios=[5.4] + [0.66] * _MAX_EXAMPLES * bool(rows),
        )  # fmt: skip
        self._matrix(figure.add_subplot(parts[:, 0]))
        for i, (pair, pictures) in enumerate(rows):
            for j, picture in enumerate(pictures):
                panel = figure.add_subplot(parts[i, 1 + j])
                panel.imshow(shown(picture), cmap="gray", interpolation="nearest")
                bare(panel)
                if not j:
                    title = f"{self.names[pair.true]} taken for "
                    title += f"{self.names[pair.predicted]}, {pair.count}×"
                    panel.set_title(title, fontsize=9, loc="left")
        return figure

    def _matrix(self, panel: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        shares = self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)
        colours = LinearSegmentedColormap.from_list("values", ["#ffffff", VALUE])
        panel.imshow(np.sqrt(shares), cmap=colours, vmin=0, vmax=1)
        if len(self.names) <= _MAX_NUMBERS:
            for (i, j), count in np.ndenumerate(self.counts):
                ink = "white" if shares[i, j] > 0.35 else INK
                if count:
                    panel.text(
                        j, i, str(count), ha="center", va="center", fontsize=8,
                        color=ink, weight="bold" if i == j else "normal",
                    )  # fmt: skip
            places = range(len(self.names))
            upright = max(map(len, self.names)) <= 3
            turned = 0 if upright else 90
            panel.set_xticks(places, self.names, fontsize=9, rotation=turned)
            panel.set_yticks(places, self.names, fontsize=9)
        panel.set_xlabel("predicted")
        panel.set_ylabel("true")
        panel.set_title("counts; dark: a large share of the row", fontsize=10)


def confused_pairs(counts: Array) -> list[Pair]:
    """The cells off the diagonal, the most frequent first.

    Example:
        >>> confused_pairs(np.array([[8, 2], [0, 5]]))
        [Pair(true=0, predicted=1, count=2, share=0.2)]
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    totals = counts.sum(axis=1)
    order = np.argsort(-wrong, axis=None, kind="stable")[: np.count_nonzero(wrong)]
    return [
        Pair(i, j, int(wrong[i, j]), float(wrong[i, j] / totals[i]))
        for i, j in (divmod(int(at), len(counts)) for at in order)
    ]


def confusions(
    predicted: Any,
    labels: Any,
    names: Sequence[str],
    inputs: data.Dataset | Array | None = None,
) -> Confusions:
    """Count what was taken for what, with examples of the most frequent mistakes.

    Args:
        predicted: the class of each example, (n,), or scores (n, classes).
        labels: its true class, (n,).
        names: of the classes.
        inputs: the examples, for pictures of the mistakes.

    Raises:
        ShapeError: for other numbers of predictions, labels and examples, or classes
            without names.

    Example:
        >>> print(confusions([0, 1, 1, 1], [0, 0, 1, 1], ("cat", "dog")))
        3 of 4 examples right (75.00 %)
          cat taken for dog: 1 time, 50.0 % of its class
    """
    found, true = np.asarray(predicted), np.asarray(labels)
    found = found.argmax(axis=1) if found.ndim == 2 else found
    lengths = {len(found), len(true), len(true if inputs is None else inputs)}
    largest = max(found.max(initial=0), true.max(initial=0))
    if len(lengths) != 1 or largest >= len(names):
        raise ShapeError(
            "confusions: predictions, labels and names do not fit together",
            got=f"{len(found)} predictions, {len(true)} labels of classes up to "
            f"{largest}, {len(names)} names",
            expected="a prediction and a label for each example, a name for each class",
        )
    counts = confusion_matrix(found, true, len(names))
    if inputs is None or not _are_pictures(inputs):
        return Confusions(counts, tuple(names))
    examples = []
    for pair in confused_pairs(counts)[:_MAX_PAIRS]:
        at = np.flatnonzero((true == pair.true) & (found == pair.predicted))
        examples.append((pair, tuple(read(inputs, at[:_MAX_EXAMPLES]))))
    return Confusions(counts, tuple(names), tuple(examples))


def _are_pictures(inputs: data.Dataset | Array) -> bool:
    if isinstance(inputs, data.Dataset):
        return len(inputs.example_shape) == 3
    return np.ndim(inputs) == 4
