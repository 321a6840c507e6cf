"""A computational graph as a circuit: gates, wires, values above, gradients below."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from chainrule.errors import counted
from chainrule.explanation.drawing.amounts import amount, own_name, value_of
from chainrule.explanation.drawing.folding import folded
from chainrule.explanation.drawing.layout import Layout, layered
from chainrule.explanation.drawing.pieces import Scheme, Wire
from chainrule.explanation.drawing.shapes import (
    FAINT,
    LINE,
    MARGIN,
    MAX_WORDS,
    SIZE,
    SMALL,
    Words,
    faint,
    final_words,
    label_of,
    size_of,
    stretch_of,
    titled,
)
from chainrule.explanation.drawing.signs import formula_of, shape_text
from chainrule.explanation.drawing.svg import (
    Drawing,
    Raw,
    element,
    fitted,
    group,
    text,
    text_width,
)
from chainrule.explanation.notation import pretty_name
from chainrule.explanation.picture import GRADIENT, INK, VALUE

__all__ = ["Box", "Circuit"]

_MAX_LEGEND = 640.0
_CENTRE = {"text_anchor": "middle", "font_size": SIZE, "fill": INK}

KINDS = {
    "variable": "barred: a parameter",
    "constant": "dashed: a constant",
    "module": "box with a name: a module, and all inside it",
}


@dataclass(frozen=True)
class Box:
    """Where a piece stands: its shape from (x, y), then the wire with its words."""

    x: float
    y: float
    width: float
    height: float
    """Of the shape."""
    stretch: float
    """Of the wire behind it, which carries the words."""

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


class Circuit:
    """A scheme laid out, ready to be drawn with any words on its wires."""

    def __init__(self, found: Scheme, words: Sequence[Words] | None = None) -> None:
        self.scheme = found
        self.words = [*words] if words else [final_words(p) for p in found.pieces]
        shapes = [size_of(p) for p in found.pieces]
        stretches = [stretch_of(w) for w in self.words]
        sizes = [
            (w + stretch, max(h, 2 * (SMALL + 6) if any(words) else 0))
            for (w, h), stretch, words in zip(
                shapes, stretches, self.words, strict=True
            )
        ]
        edges = [(wire.start, wire.end) for wire in found.wires]
        stubs = [text_width(_source(wire), SMALL) + 22 for wire in found.wires]
        self.layout: Layout = layered(sizes, edges, between_layers=34.0, stubs=stubs)
        self.rows = folded(self.layout, sizes)
        self.corner = (MARGIN + self.rows.side, MARGIN)
        placed = (self.rows.shifted(at, self.corner) for at in self.layout.boxes)
        self.boxes = [
            Box(x, y + (size[1] - h) / 2, w, h, stretch)
            for (x, y), (w, h), size, stretch in zip(
                placed, shapes, sizes, stretches, strict=True
            )
        ]
        self.ports = self._ports()

    def _ports(self) -> list[tuple[float, float]]:
        """Where each wire ends: spread over the left side of its box, uncrossed.

        From the left end and the middle of the box.
        """
        ends = defaultdict(list)
        for i, wire in enumerate(self.scheme.wires):
            route = self.layout.routes[i]
            came = route[-2] if route else self.layout.boxes[wire.start]
            ends[wire.end].append((came[1], i))
        ports = [(0.0, 0.0)] * len(self.scheme.wires)
        for end, arriving in ends.items():
            box, round_ = self.boxes[end], self.scheme.pieces[end].kind == "gate"
            room = box.height * (0.62 if round_ else 0.8)
            step = min(room / max(len(arriving) - 1, 1), 11.0)
            for k, (_, i) in enumerate(sorted(arriving)):
                off = (k - (len(arriving) - 1) / 2) * step
                radius = box.height / 2
                inset = radius - (radius**2 - off**2) ** 0.5 if round_ else 0.0
                ports[i] = (inset, off)
        return ports

    def drawing(self) -> Drawing:
        """The picture with all words on it."""
        parts = [self.wires(), *map(self.shape, range(len(self.boxes)))]
        parts += [self.words_at(i, w) for i, w in enumerate(self.words)]
        return self.framed(parts)

    def framed(self, parts: Sequence[Raw]) -> Drawing:
        """Elements with the legend below, as a drawing."""
        width, height, legend = self.frame()
        return Drawing(
            title=self.title,
            description="\n".join(self.tellings),
            width=width,
            height=height,
            body=group(*parts, legend),
        )

    def frame(self) -> tuple[float, float, Raw]:
        """(width, height, the legend at its foot) of the whole picture."""
        items = self._legend()
        wide = sum(text_width(words, SMALL) + 18 for words, _ in items)
        long = self.rows.length + 2 * self.rows.side
        width = max(long, min(wide, _MAX_LEGEND)) + 2 * MARGIN
        x, y, shown = MARGIN, self.rows.breadth + 2 * MARGIN + 14, []
        for words, colour in items:
            room = text_width(words, SMALL)
            if x > MARGIN and x + room > width - MARGIN:
                x, y = MARGIN, y + 16
            shown.append(text(x, y, words, fill=colour))
            x += room + 18
        return round(width, 1), round(y + 10, 1), group(*shown, font_size=SMALL)

    @property
    def title(self) -> str:
        count = sum(len(p.nodes) for p in self.scheme.pieces)
        pieces = len(self.scheme.pieces)
        title = f"Graph of {counted(count, 'node')}"
        return title if count == pieces else f"{title}, drawn as {pieces}"

    def _legend(self) -> list[tuple[str, str]]:
        """What the words and shapes mean, each with its colour."""
        parts = []
        if any(w.above for w in self.words):
            parts.append(("above a wire: its value", VALUE))
        if any(w.below for w in self.words):
            outputs = [self.scheme.pieces[i].result for i in self.scheme.outputs]
            name = own_name(outputs[0]) if len(outputs) == 1 else "the outputs' sum"
            name = name or "the output"
            parts.append((f"below a wire: the gradient of {name} by it", GRADIENT))
        kinds = {p.kind for p in self.scheme.pieces} - {"gate", "input"}
        parts += [(words, FAINT) for kind, words in KINDS.items() if kind in kinds]
        if any(route is None for route in self.layout.routes):
            parts.append(("name ▸: a long wire from there, not drawn", FAINT))
        return parts

    @cached_property
    def tellings(self) -> list[str]:
        """Every piece in words."""
        return [self._told(i) for i in range(len(self.boxes))]

    def _told(self, i: int) -> str:
        piece, words = self.scheme.pieces[i], self.words[i]
        node = piece.result
        name = pretty_name(node.name)
        if piece.kind == "module":
            told = f"{titled(piece)}: {', '.join(piece.lines)}"
        elif node.op is None:
            told = pretty_name(piece.label)
        else:
            told = f"{name} = {formula_of(node)}"
        value = value_of(node)
        if piece.kind != "module":
            shape = shape_text(node.spec.shape)
            told += f": {shape}" if value is None else f" = {amount(value)}"
        return told + (f", gradient {words.below}" if words.below else "")

    # The parts of the picture.

    def wires(self) -> Raw:
        """All wires, from the end of each piece's stretch to the next piece."""
        lines, heads, names = [], [], []
        for i, wire in enumerate(self.scheme.wires):
            route, (inset, off) = self.layout.routes[i], self.ports[i]
            box = self.boxes[wire.end]
            x, y = box.x + inset, box.middle + off
            heads.append(
                f"M{x - 7:.1f} {y - 3.5:.1f}L{x:.1f} {y:.1f}L{x - 7:.1f} {y + 3.5:.1f}z"
            )
            if route is None:
                lines.append(f"M{x - 14:.1f} {y:.1f}H{x - 6:.1f}")
                names.append(faint(x - 15, y + 3.5, _source(wire), text_anchor="end"))
                continue
            lines.append(self.rows.path(i, route, (x - 6, y), self.corner))
        for box in self.boxes:
            right = box.x + box.width
            if box.stretch:
                lines.append(f"M{right:.1f} {box.middle:.1f}H{right + box.stretch:.1f}")
        return group(
            element("path", d="".join(lines), fill="none", stroke=FAINT),
            element("path", d="".join(heads), fill=FAINT),
            *names,
        )

    def shape(self, i: int) -> Raw:
        """A piece's shape with what stands in it."""
        piece = self.scheme.pieces[i]
        is_module = piece.kind == "module"
        parts = self._module(i) if is_module else self._gate_or_leaf(i)
        names = piece.label
        if not is_module:
            names = " ".join(dict.fromkeys((names, piece.result.name)))
        told = element("title", self.tellings[i])
        return group(told, *parts, data_name=names, class_=piece.kind)

    def _gate_or_leaf(self, i: int) -> list[Raw]:
        box, piece = self.boxes[i], self.scheme.pieces[i]
        place = {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
        corner = {"gate": box.height / 2, "input": 9}.get(piece.kind, 0)
        dashes = "4 3" if piece.kind == "constant" else None
        parts = [
            element("rect", fill="#ffffff", stroke=INK, rx=corner,
                    stroke_dasharray=dashes, **place),
        ]  # fmt: skip
        middle = box.x + box.width / 2
        if piece.kind == "variable":
            parts.append(element("rect", fill=INK, **(place | {"width": 4})))
            middle += 2
        words, at = label_of(piece), box.middle + SIZE * 0.35
        parts.append(text(middle, at, words, **_CENTRE))
        return parts

    def _module(self, i: int) -> list[Raw]:
        box, piece = self.boxes[i], self.scheme.pieces[i]
        right, bottom = box.x + box.width, box.y + box.height
        parts = [
            element("rect", x=box.x, y=box.y, width=box.width, height=box.height,
                    rx=6, fill="#f1f4f8", stroke=INK),
        ]  # fmt: skip
        if piece.times > 1:  # as a pile of cards
            edge = f"M{box.x + 4:.1f} {bottom + 3:.1f}H{right + 3:.1f}V{box.y + 4:.1f}"
            parts.append(element("path", d=edge, fill="none", stroke=INK))
        for k, line in enumerate([titled(piece), *piece.lines]):
            style = {"font_size": SMALL} if k else {"font_weight": "bold"}
            shown = fitted(line, SMALL if k else SIZE, MAX_WORDS, bold=not k)
            at = box.y + LINE * (k + 1) + 1
            parts.append(text(box.x + box.width / 2, at, shown, **(_CENTRE | style)))
        return parts

    def words_at(self, i: int, words: Words) -> Raw:
        """The value above a piece's wire and the gradient below it."""
        box = self.boxes[i]
        x = box.x + box.width + 8
        parts = []
        if words.above:
            parts.append(text(x, box.middle - 5, words.above, fill=VALUE))
        if words.below:
            parts.append(text(x, box.middle + 14, words.below, fill=GRADIENT))
        return group(*parts, font_size=SMALL) if parts else Raw()

    def ring(self, i: int) -> Raw:
        """A thick border: this piece is at work."""
        box = self.boxes[i]
        return element(
            "rect", x=box.x - 4, y=box.y - 4, width=box.width + 8,
            height=box.height + 8, rx=min(box.height / 2 + 4, 19), fill="none",
            stroke=INK, stroke_width=3,
        )  # fmt: skip


def _source(wire: Wire) -> str:
    """What a wire that is cut says of where it comes from."""
    return f"{pretty_name(wire.node.name)} ▸"
