"""What a corruption is: a known, seeded way in which pictures are damaged."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from chainrule.data.transforms import Keys
from chainrule.errors import OptionError

__all__ = ["Chain", "Corruption", "Damaged", "check_range"]

Array = np.ndarray[Any, Any]


class Damaged(NamedTuple):
    """Pictures as they were observed, in levels of 0 to 255, and what is lost of them.

    Args:
        pictures: float32 (n, h, w, c), of the undamaged pictures' shape. Noise is
            neither rounded nor clipped, so its distribution is the one that is stated.
        lost: bool (n, h, w, 1) or (n, h, w, c), True where nothing was observed and
            ``pictures`` holds 0; None where every value was.
    """

    pictures: Array
    lost: Array | None = None


@dataclass(frozen=True)
class Corruption(ABC):
    """A forward model y = A(x): what becomes of pictures, and what is to be undone.

    Calling one takes float32 pictures (n, h, w, c) in levels of 0 to 255 and gives
    what was observed of them. Random numbers depend on the keys alone, so a picture is
    damaged the same way whatever batch it comes in.
    """

    name: ClassVar[str]
    """As in the text that names the corruption: ``noise`` of ``noise:gaussian:25``."""
    kind: ClassVar[str] = ""
    """Of several of one name, ``gaussian`` of ``noise:gaussian:25``."""
    equation: ClassVar[str]
    """The forward model whose inverse problem restoration is: ``y = k ∗ x + n``."""
    baselines: ClassVar[tuple[str, ...]] = ()
    """Classical methods that undo it, by their names in ``restoration.BASELINES``."""

    @abstractmethod
    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        """The damaged pictures; those given are left alone."""

    def __str__(self) -> str:
        """The text that names it: ``parse_corruption`` reads it back."""
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        parts = [self.name, self.kind, *map(value_text, values)]
        return ":".join(filter(None, parts))


def value_text(value: object) -> str:
    """A number as its shortest text: 25 for 25.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def check_range(
    corruption: Corruption,
    option: str,
    low: float,
    high: float = math.inf,
    *,
    is_open: bool = False,
) -> None:
    """Raise OptionError for a value outside its range; ``is_open`` leaves out low."""
    value = getattr(corruption, option)
    if low <= value <= high and math.isfinite(value) and not (is_open and value == low):
        return
    least = f"above {low:g}" if is_open else f"from {low:g}"
    raise OptionError(
        f"{corruption.name} {corruption.kind}: {option} out of range".replace(
            " :", ":"
        ),
        got=value,
        expected=f"a number {least}" + (f" to {high:g}" if high < math.inf else ""),
    )


@dataclass(frozen=True)
class Chain(Corruption):
    """Several corruptions, one after the other.

    What one of them loses stays lost: later ones see 0 there, and so does the observer.
    Two of one kind in a chain draw different numbers.
    """

    name = "chain"
    equation = "y = Aₖ(… A₁(x))"

    steps: tuple[Corruption, ...]

    def __call__(self, pictures: Array, keys: Keys) -> Damaged:
        lost: Array | None = None
        for position, step in enumerate(self.steps):
            pictures, newly = step(pictures, keys.at(position))
            if newly is not None:
                lost = newly if lost is None else lost | newly
        if lost is not None:
            pictures = np.where(lost, np.float32(0), pictures)
        return Damaged(pictures, lost)

    def __str__(self) -> str:
        return " ".join(map(str, self.steps))
