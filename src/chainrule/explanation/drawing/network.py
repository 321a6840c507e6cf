"""A network as its layers: what each is, what it puts out, how much it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.errors import counted
from chainrule.explanation.drawing.layout import layered
from chainrule.explanation.drawing.opened import (
    Alike,
    in_cards,
    opened,
    parent,
    traced_model,
)
from chainrule.explanation.drawing.pieces import Piece, Scheme, within
from chainrule.explanation.drawing.shapes import FAINT, MARGIN, faint, trail
from chainrule.explanation.drawing.signs import shape_text
from chainrule.explanation.drawing.svg import (
    Drawing,
    Raw,
    element,
    fitted,
    group,
    text,
    text_width,
)
from chainrule.explanation.picture import INK
from chainrule.nn.module import Module

__all__ = ["draw_network"]

_READABLE = 40
"""Boxes up to which modules are opened unless the user says how far."""

_SIZE = 12.0
_ROW = 18.0
_GAP = 14.0  # between the columns of a box
_MAX_NAME = 150.0
_MAX_LAYER = 300.0
_FRAME = 12.0  # around equal modules in a row


def draw_network(
    model: Module,
    input_shape: Sequence[int],
    *,
    depth: int | None = None,
    collapse: str | Sequence[str] = (),
    repeats: bool = True,
    dtype: Any = "float32",
) -> Drawing:
    """Draw a network's layers from top to bottom, with what runs past them.

    Each layer is a line: its name, what it is, the shape of its output (n is the number
    of examples) and its number of parameters. A box begins where weights are. Nothing
    is computed.

    Args:
        model: any module.
        input_shape: the shape of one example, without the batch axis.
        depth: how many levels of modules to open; as many as stay readable unless
            given.
        collapse: paths of modules to keep closed, ``*`` standing for any text.
        repeats: whether equal modules in a row are drawn once, with ×3 beside them.
        dtype: of the example.

    Raises:
        ShapeError: where the example does not fit a layer.
        OptionError: for a depth below 0, and a pattern that fits no module.

    Example:
        >>> from chainrule import nn
        >>> print(draw_network(nn.mlp(784, (30,), 10), (784,)))
        Sequential, 23,860 parameters
        flatten: Flatten(), n×784
        hidden1: Dense(in_features=784, out_features=30), n×30, 23,550 parameters
        activation1: ReLU(), n×30
        output: Dense(in_features=30, out_features=10), n×10, 310 parameters
    """
    graph = traced_model(model, input_shape, dtype)
    how: dict[str, Any] = {"collapse": collapse, "whole_layers": True}
    levels = max((len(within(n)) for n in graph.nodes), default=1)
    level = levels if depth is None else depth
    while True:
        found, alike = opened(graph, level, repeats, how)
        cards = in_cards(found)
        if depth is not None or len(cards) <= _READABLE or level <= 1:
            break
        level -= 1
    return _Network(model, found, cards, alike).drawing()


class _Network:
    """Boxes of layers, laid out downwards."""

    def __init__(
        self,
        model: Module,
        found: Scheme,
        cards: Sequence[Sequence[int]],
        alike: Sequence[Alike],
    ) -> None:
        self.model, self.scheme, self.cards = model, found, cards
        card_of = {i: k for k, card in enumerate(cards) for i in card}
        self.rows = [[_row(found.pieces[i]) for i in card] for card in cards]
        self.columns = [
            [max(text_width(cell, _SIZE, bold=not k) for cell in column)
             for k, column in enumerate(zip(*rows, strict=True))]
            for rows in self.rows
        ]  # fmt: skip
        sizes = [self._size(k) for k in range(len(cards))]
        edges = [(card_of[w.start], card_of[w.end]) for w in found.wires]
        self.edges = [(a, b) for a, b in edges if a != b]
        layout = layered(
            [(height, width) for width, height in sizes],
            self.edges,
            between_layers=34.0,
            between_boxes=26.0,
        )
        # A frame may reach beyond what it is drawn around.
        self.spare = _FRAME if alike else 0.0
        self.top, self.left = MARGIN + 26, MARGIN + self.spare
        self.places = [
            (y + self.left, x + self.top, *size)
            for (x, y), size in zip(layout.boxes, sizes, strict=True)
        ]
        self.layout = layout
        self.framed = [self._frame(row, card_of) for row in alike]

    def _size(self, k: int) -> tuple[float, float]:
        piece = self.scheme.pieces[self.cards[k][0]]
        if piece.kind != "module":
            wide = text_width(piece.label, _SIZE)
            return (max(30.0, wide + 20), 28.0)
        wide = sum(self.columns[k]) + _GAP * (len(self.columns[k]) - 1)
        return wide + 20, _ROW * (len(self.rows[k]) + bool(self._header(k))) + 8

    def _header(self, k: int) -> str:
        """Where the layers of a box are, unless that is the model itself."""
        return parent(self.scheme.pieces[self.cards[k][0]])

    def _frame(
        self, row: Alike, card_of: dict[int, int]
    ) -> tuple[float, float, float, float, str]:
        inside = [self.places[card_of[i]] for i in row.pieces]
        x = min(p[0] for p in inside) - _FRAME
        y = min(p[1] for p in inside) - _FRAME
        right = max(x + w for x, _, w, _ in inside) + _FRAME
        bottom = max(y + h for _, y, _, h in inside) + _FRAME
        return x, y, right - x, bottom - y, row.label

    def drawing(self) -> Drawing:
        """The picture, with the whole network's name and size above it."""
        total = self.model.num_parameters()
        title = f"{type(self.model).__name__}, {counted(total, 'parameter')}"
        labels = [x + w + 6 + text_width(words, _SIZE, bold=True)
                  for x, _, w, _, words in self.framed]  # fmt: skip
        right = max([self.left + self.layout.breadth, *labels])
        width = max(right, MARGIN + text_width(title, 14, bold=True)) + MARGIN
        head = text(
            MARGIN, MARGIN + 10, title, font_size=14, font_weight="bold", fill=INK
        )
        parts = [head, *map(self._drawn_frame, self.framed), self._wires()]
        parts += [self._card(k) for k in range(len(self.cards))]
        told = [
            ": ".join((piece.label, ", ".join(filter(None, _row(piece)[1:]))))
            for piece in self.scheme.pieces
            if piece.kind == "module"
        ]
        told += [f"{words}: drawn once" for *_, words in self.framed]
        height = self.top + self.layout.length + MARGIN + self.spare
        return Drawing(
            title, "\n".join(told), round(width, 1), round(height, 1), group(*parts)
        )

    def _drawn_frame(self, frame: tuple[float, float, float, float, str]) -> Raw:
        x, y, w, h, words = frame
        return group(
            element(
                "rect", x=x, y=y, width=w, height=h, rx=10, fill="#fbf7ee",
                stroke=INK, stroke_dasharray="5 4",
            ),
            text(x + w + 6, y + 16, words, font_size=_SIZE, font_weight="bold",
                 fill=INK),
        )  # fmt: skip

    def _wires(self) -> Raw:
        lines, heads, names = [], [], []
        for (a, b), route in zip(self.edges, self.layout.routes, strict=True):
            x, y, w, _ = self.places[b]
            tip = x + w / 2
            heads.append(
                f"M{tip - 4:.1f} {y - 7:.1f}L{tip:.1f} {y:.1f}"
                f"L{tip + 4:.1f} {y - 7:.1f}z"
            )
            if route is None:
                last = self.scheme.pieces[self.cards[a][-1]].label
                names.append(faint(tip + 6, y - 5, f"▾ {last}"))
                continue
            points = [(along + self.top, across + self.left) for along, across in route]
            points[-1] = (y - 6, tip)
            lines.append(trail(points, down=True))
        return group(
            element("path", d="".join(lines), fill="none", stroke=FAINT),
            element("path", d="".join(heads), fill=FAINT),
            *names,
        )

    def _card(self, k: int) -> Raw:
        x, y, w, h = self.places[k]
        piece = self.scheme.pieces[self.cards[k][0]]
        style = {"x": x, "y": y, "width": w, "height": h, "stroke": INK}
        if piece.kind != "module":
            corner = {"input": 9.0, "gate": h / 2}.get(piece.kind, 0.0)
            dashes = "4 3" if piece.kind == "constant" else None
            return group(
                element("rect", fill="#ffffff", rx=corner, stroke_dasharray=dashes,
                        **style),
                text(x + w / 2, y + h / 2 + 4, piece.label, text_anchor="middle",
                     font_size=_SIZE, fill=INK),
                data_name=piece.label,
            )  # fmt: skip
        parts = [element("rect", fill="#f1f4f8", rx=6, **style)]
        baseline = y + _ROW - 1
        if self._header(k):
            shown = fitted(self._header(k), 11, w - 20)
            parts.append(faint(x + 10, baseline, shown))
            baseline += _ROW
        for row in self.rows[k]:
            at = x + 10.0
            for column, (cell, wide) in enumerate(
                zip(row, self.columns[k], strict=True)
            ):
                right = {"text_anchor": "end"} if column == 3 else {}
                parts.append(
                    text(
                        at + (wide if right else 0), baseline, cell,
                        font_weight=None if column else "bold", **right,
                    )
                )  # fmt: skip
                at += wide + _GAP
            baseline += _ROW
        names = " ".join(self.scheme.pieces[i].label for i in self.cards[k])
        return group(*parts, font_size=_SIZE, fill=INK, data_name=names)


def _row(piece: Piece) -> tuple[str, str, str, str]:
    """(name, layer, shape of the output, parameters) of a layer, fit for a line."""
    times = f" ×{piece.times}" if piece.times > 1 else ""
    own = piece.label if piece.times > 1 else piece.label.rpartition(".")[2]
    name = fitted(own, _SIZE, _MAX_NAME, bold=True)
    kind = fitted(piece.lines[0] if piece.lines else "", _SIZE, _MAX_LAYER)
    count = piece.num_parameters
    # However many examples the model was traced with, it takes n.
    shape = shape_text(("n", *piece.result.spec.shape[1:]))
    return name + times, kind, shape, counted(count, "parameter") if count else ""
