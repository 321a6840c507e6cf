"""Drawings read back from their SVG, by nothing but XML and a table of letters."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from chainrule.explanation.drawing.svg import text_width

SVG = "{http://www.w3.org/2000/svg}"
STYLE = ("font-size", "fill", "text-anchor", "font-weight")


@dataclass(frozen=True)
class Words:
    """Words in a picture, with the box that they fill."""

    text: str
    colour: str
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Words) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        above = self.bottom <= other.top or other.bottom <= self.top
        return not beside and not above


class Picture:
    """An SVG, once it is well formed and stands alone."""

    def __init__(self, svg: str) -> None:
        self.root = ElementTree.fromstring(svg)
        assert self.root.tag == f"{SVG}svg"
        ids = [e.get("id") for e in self.root.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        rest = svg.replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"https?:|href|url\(|@import|<script|<image", rest)
        _, _, self.width, self.height = map(float, self.root.attrib["viewBox"].split())
        first = {"font-size": "16", "fill": "#000000"}
        self.words = list(_words(self.root, first))

    @property
    def texts(self) -> list[str]:
        return [w.text for w in self.words]

    def named(self) -> list[str]:
        """What can be searched for."""
        return [
            e.attrib["data-name"] for e in self.root.iter() if "data-name" in e.attrib
        ]

    def rectangles(self) -> list[tuple[float, ...]]:
        """(x, y, width, height) of every box but the background."""
        return [
            tuple(float(e.attrib[k]) for k in ("x", "y", "width", "height"))
            for e in self.root.iter(f"{SVG}rect")
            if "x" in e.attrib
        ]

    def check_readable(self) -> None:
        """No words overlap, none leave the picture, all stand out from white."""
        for i, a in enumerate(self.words):
            assert a.left >= 0, a
            assert a.top >= 0, a
            assert a.right <= self.width + 0.5, a
            assert a.bottom <= self.height + 0.5, a
            assert contrast(a.colour) >= 4.5, a
            for b in self.words[i + 1 :]:
                assert not a.overlaps(b), (a, b)


def _words(e: ElementTree.Element, inherited: dict[str, str]) -> Iterator[Words]:
    style = inherited | {k: v for k, v in e.attrib.items() if k in STYLE}
    if e.tag == f"{SVG}text":
        size = float(style["font-size"])
        text = e.text or ""
        wide = text_width(text, size, bold=style.get("font-weight") == "bold")
        anchor = {"middle": 0.5, "end": 1.0}.get(style.get("text-anchor", ""), 0.0)
        x, y = float(e.attrib["x"]) - anchor * wide, float(e.attrib["y"])
        yield Words(text, style["fill"], x, y - 0.75 * size, x + wide, y + 0.2 * size)
    for child in e:
        yield from _words(child, style)


def contrast(colour: str) -> float:
    """Of a colour on white, by the rule of WCAG 2.1."""
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
              for v in levels]  # fmt: skip
    parts = zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    return 1.05 / (sum(weight * v for weight, v in parts) + 0.05)


@pytest.fixture
def read() -> type[Picture]:
    """Reads an SVG: ``read(drawing.svg)``."""
    return Picture
