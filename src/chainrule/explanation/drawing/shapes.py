"""How large pieces are, what stands in them and on their wires."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from chainrule.explanation.drawing.amounts import (
    amount,
    gradient_of,
    own_name,
    value_of,
)
from chainrule.explanation.drawing.pieces import Piece
from chainrule.explanation.drawing.signs import shape_text
from chainrule.explanation.drawing.svg import Raw, fitted, text, text_width
from chainrule.explanation.notation import pretty_name

__all__ = [
    "FAINT",
    "LINE",
    "MARGIN",
    "MAX_WORDS",
    "SIZE",
    "SMALL",
    "Words",
    "faint",
    "final_words",
    "label_of",
    "size_of",
    "stretch_of",
    "titled",
    "trail",
    "wrapped",
]

MARGIN = 16.0
SIZE = 13.0  # of letters
SMALL = 11.0
_RADIUS = 15.0  # of a gate
LINE = 15.0  # from one line in a module's box to the next
_STUB = 12.0  # of wire behind a gate without words
MAX_WORDS = 210.0  # wide
FAINT = "#5f6368"


class Words(NamedTuple):
    """What stands on a piece's way out: its value above, its gradient below."""

    above: str
    below: str


def final_words(piece: Piece) -> Words:
    """Value and gradient of a piece; without values, what shape they would have."""
    node = piece.result
    value, gradient = value_of(node), gradient_of(node)
    name = own_name(node) if node.op is not None and piece.kind == "gate" else ""
    if value is not None:
        above = amount(value)
    else:
        above = shape_text(node.spec.shape) if piece.kind != "module" else ""
    if name:
        above = f"{name} = {above}"
    return Words(above, "" if gradient is None else amount(gradient))


def stretch_of(words: Words) -> float:
    """How much wire words need."""
    wide = max(text_width(words.above, SMALL), text_width(words.below, SMALL))
    return wide + 16 if wide else _STUB


def label_of(piece: Piece) -> str:
    """What stands in a gate or a leaf."""
    words = piece.label if piece.kind == "gate" else pretty_name(piece.label)
    return fitted(words, SIZE, MAX_WORDS)


def titled(piece: Piece) -> str:
    """A module's path, and how many of its kind it stands for."""
    times = f" ×{piece.times}" if piece.times > 1 else ""
    room = MAX_WORDS - text_width(times, SIZE, bold=True)
    return fitted(piece.label, SIZE, room, bold=True) + times


def size_of(piece: Piece) -> tuple[float, float]:
    """(width, height) of a piece's shape."""
    if piece.kind == "module":
        lines = [(titled(piece), SIZE, True)]
        lines += [(line, SMALL, False) for line in piece.lines]
        wide = max(text_width(w, size, bold=bold) for w, size, bold in lines)
        return min(wide, MAX_WORDS) + 16, LINE * len(lines) + 8
    wide = text_width(label_of(piece), SIZE)
    if piece.kind == "gate":
        return max(2 * _RADIUS, wide + 18), 2 * _RADIUS
    return max(24.0, wide + 14), 24.0


def trail(points: Sequence[tuple[float, float]], *, down: bool = False) -> str:
    """A path through points: straight where it can be, in a curve where not.

    Points are (along, across); ``down`` for drawings whose layers follow downwards.
    """

    def at(along: float, across: float) -> str:
        x, y = (across, along) if down else (along, across)
        return f"{x:.1f} {y:.1f}"

    (x, y), *rest = points
    path = [f"M{at(x, y)}"]
    for px, py in rest:
        if abs(py - y) < 0.05:
            path.append(f"L{at(px, py)}")
        else:
            mid = (x + px) / 2
            path.append(f"C{at(mid, y)} {at(mid, py)} {at(px, py)}")
        x, y = px, py
    return "".join(path)


def faint(x: float, y: float, words: str, **attributes: object) -> Raw:
    """Small words beside the picture."""
    return text(x, y, words, fill=FAINT, font_size=SMALL, **attributes)


def wrapped(line: str, size: float, room: float) -> list[str]:
    """Words in as many lines as they need."""
    rows = [""]
    for long in line.split(" "):
        word = fitted(long, size, room)
        longer = f"{rows[-1]} {word}".strip()
        if rows[-1] and text_width(longer, size) > room:
            rows.append(word)
        else:
            rows[-1] = longer
    return rows
