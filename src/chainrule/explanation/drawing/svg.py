"""Writing SVG: elements, the width of a text, and the drawing that holds them."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.errors import OptionError
from chainrule.explanation.drawing.page import page
from chainrule.files import write_atomically

__all__ = [
    "FONT",
    "Drawing",
    "Raw",
    "element",
    "fitted",
    "group",
    "text",
    "text_width",
    "write_drawing",
]

FONT = "Liberation Sans, Arial, Helvetica, sans-serif"

# How far each letter moves the pen, in parts of the font's size: Arial's metric.
_LETTERS = {
    0.222: "'ijl|",
    0.278: " !,./:;I[]ft·",
    0.334: "(){}-`r₁₂₃₄₅₆₇₈₉₀²³",
    0.389: '*"',
    0.5: "Jcksvxyz^ŷ",
    0.556: "#$0123456789?L_abdeghnopqu",
    0.584: "+<=>~×−",
    0.611: "FTZ",
    0.667: "&ABEKPSVXY",
    0.722: "CDHNRUw",
    0.778: "GOQ",
    0.833: "Mm",
    0.889: "%",
    0.944: "W",
    1.015: "@",
}
_ADVANCE = {letter: width for width, letters in _LETTERS.items() for letter in letters}
_UNKNOWN = 0.75
"""Letters outside the table, such as ∂, come from other fonts, some of them wide."""

# XML has no place for these, not even escaped.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


class Raw(str):
    """Text that is XML already."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: Any) -> Raw:
    """One element; children that are no ``Raw`` are text and escaped.

    Attributes that are None are left out, ``stroke_width`` is written stroke-width and
    ``class_`` class; numbers are rounded to hundredths.

    Example:
        >>> element("text", "x < 1", x=1.234, text_anchor="end")
        '<text x="1.23" text-anchor="end">x &lt; 1</text>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_escaped(_value(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(c if isinstance(c, Raw) else _escaped(c) for c in children)
    return Raw(f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>")


def group(*children: str, **attributes: Any) -> Raw:
    """Elements that share attributes."""
    return element("g", *children, **attributes)


def text(x: float, y: float, words: str, **attributes: Any) -> Raw:
    """Words whose baseline is at y."""
    return element("text", words, x=x, y=y, **attributes)


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".").replace("-0", "0", value == 0)
    return str(value)


def _escaped(words: str) -> str:
    return html.escape(_FORBIDDEN.sub("\ufffd", words), quote=True)


def text_width(words: str, size: float, *, bold: bool = False) -> float:
    """How wide words are in a font of this size; a little more, rather than less.

    Example:
        >>> text_width("Wx", 10.0)
        14.44
    """
    wide = sum(_ADVANCE.get(letter, _UNKNOWN) for letter in words)
    return round(wide * size * (1.08 if bold else 1.0), 3)


def fitted(words: str, size: float, room: float, *, bold: bool = False) -> str:
    """The words, shortened with … where they are wider than the room.

    Example:
        >>> fitted("a long name", 10.0, 40.0)
        'a long…'
    """
    if text_width(words, size, bold=bold) <= room:
        return words
    while words and text_width(words + "…", size, bold=bold) > room:
        words = words[:-1]
    return words.rstrip() + "…"


def write_drawing(path: str | os.PathLike[str], svg: str, whole: str) -> None:
    """Write a drawing as its file's name says: .svg alone, .html the page around it.

    Raises:
        OptionError: for a name that ends otherwise.
        FileError: where it cannot be written.
    """
    path = Path(path)
    forms = {"svg": svg, "html": whole}
    kind = path.suffix.lower().removeprefix(".")
    if kind not in forms:
        raise OptionError.unknown("form of a drawing", kind or path.name, forms)
    write_atomically(path, forms[kind])


@dataclass(frozen=True)
class Drawing:
    """A picture made of lines and words, as SVG text.

    Notebooks show it; ``save`` writes it; printing it says what it shows. There are no
    ids in it and no references, so that any number of them can share a page.

    Args:
        title: what the picture is of, in a few words.
        description: what it shows, in words and numbers.
        width, height: in pixels.
        body: the elements.
    """

    title: str
    description: str
    width: float
    height: float
    body: Raw = field(repr=False)

    @property
    def svg(self) -> str:
        """The whole picture as SVG text, fit for a file and for a page."""
        return element(
            "svg",
            element("title", self.title),
            element("desc", self.description),
            element("rect", width="100%", height="100%", fill="#ffffff"),
            self.body,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {_value(float(self.width))} {_value(float(self.height))}",
            width=float(self.width),
            height=float(self.height),
            role="img",
            aria_label=self.title,
            font_family=FONT,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture: .svg the picture alone, .html a page to move about in.

        Raises:
            OptionError: for a name that ends otherwise.
            FileError: where it cannot be written.
        """
        write_drawing(path, self.svg + "\n", page(self.title, self.svg))

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return f'<div style="overflow:auto;max-height:40em">{self.svg}</div>'

    def __str__(self) -> str:
        return f"{self.title}\n{self.description}" if self.description else self.title
