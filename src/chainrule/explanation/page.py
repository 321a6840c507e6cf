"""Derivations as HTML: the product or the sum, and the rest behind "show more"."""

from __future__ import annotations

import html
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chainrule.errors import OptionError
from chainrule.explanation.notation import number, pretty_name
from chainrule.explanation.picture import GRADIENT, INK, VALUE
from chainrule.files import write_atomically

if TYPE_CHECKING:
    from chainrule.explanation.derivation import Explanation, Factor, Path

__all__ = ["document", "fragment", "listing", "save_page"]

_FONT = f"font:14px/1.5 system-ui,sans-serif;color:{INK};background:#fff"
_CELL = "padding:2px 10px 2px 0;text-align:left;vertical-align:top;border:0"
_HEAD = f"{_CELL};border-bottom:1px solid #9aa3ad"


def document(title: str, body: str) -> str:
    """A page that stands alone around a fragment; it needs no script."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n"
        f'<body style="margin:24px;max-width:70em;{_FONT}">\n{body}\n</body>\n</html>\n'
    )


def save_page(path: str | os.PathLike[str], title: str, body: str) -> None:
    """Write a page that stands alone.

    Raises:
        OptionError: for a name that does not end in .html.
        FileError: where it cannot be written.
    """
    target = pathlib.Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise OptionError(
            "explain: written as a page", got=target.name, expected="NAME.html"
        )
    write_atomically(target, document(title, body))


def listing(text: str) -> str:
    """Lines of text as one element."""
    style = f"{_FONT};font-family:ui-monospace,monospace;overflow-x:auto"
    return f'<pre style="{style}">{html.escape(text)}</pre>'


def fragment(found: Explanation) -> str:
    """A derivation as one element, for a notebook's cell or a page."""
    first, *others = found.blocks
    parts = [f"<p><b>{_equation(first)}</b></p>", _terms(first)]
    if others:
        inside = "".join(f"<p>{_equation(b)}</p>{_terms(b)}" for b in others)
        levels = f"{len(others)} step{'s' * (len(others) > 1)}"
        parts.append(_details(f"further up, {levels}", inside))
    digits = found.digits
    if found.steps:
        rows = (
            (
                html.escape(pretty_name(s.name)),
                html.escape(s.formula),
                _coloured(number(s.value, digits), VALUE),
            )
            for s in found.steps
        )
        table = _table(("value", "formula", "number"), rows)
        parts.append(_details("forward: the values", table))
    if found.factors:
        table = _table(
            ("factor", "formula", "number", "gate"),
            (_factor_row(f, digits) for f in found.factors),
        )
        parts.append(_details("backward: the factors", table))
    if found.hints:
        hints = "<br>".join(html.escape(hint.strip()) for hint in found.hints)
        parts.append(f"<p><small>{hints}</small></p>")
    return f'<div style="{_FONT};overflow-x:auto">{"".join(parts)}</div>'


def _equation(block: Explanation) -> str:
    """The derivative's first line; a product has each number below its factor."""
    symbol = _coloured(html.escape(block.symbol), GRADIENT)
    value = _coloured(number(block.value, block.digits), GRADIENT)
    if block.reason:
        return f"{symbol} = {value}: {html.escape(block.reason)}"
    if block.num_paths == 1:
        return _product(block.paths[0], block.symbol, block.digits)
    word = "paths" if all(p.is_complete for p in block.paths) else "terms"
    count = f"the sum over {block.num_paths} {word}: a branch adds up"
    return f"{symbol} = {value}, {count}"


def _product(path: Path, symbol: str, digits: int) -> str:
    text = html.escape(path.product(digits))
    is_said = text.startswith(html.escape(symbol) + " =")
    return text if is_said else f"{html.escape(symbol)} = {text}"


def _terms(block: Explanation) -> str:
    """The terms of a sum as a table; the last row counts those left out."""
    if block.num_paths < 2:
        return ""
    rows = [
        (
            html.escape(" · ".join(map(str, path.factors))),
            " · ".join(number(f.value, block.digits) for f in path.factors),
            _coloured(number(path.value, block.digits), GRADIENT),
        )
        for path in block.paths
    ]
    left_out = block.num_paths - len(block.paths)
    if left_out:
        rest = _coloured(number(block.rest, block.digits), GRADIENT)
        rows.append((f"… and {left_out} more", "together", rest))
    return _table(("term", "numbers", "product"), rows)


def _factor_row(factor: Factor, digits: int) -> tuple[str, str, str, str]:
    is_plain = factor.formula == number(factor.value)
    remarks = "; ".join(r for r in (factor.gate, factor.note) if r)
    return (
        html.escape(str(factor)),
        "" if is_plain else html.escape(factor.formula),
        _coloured(number(factor.value, digits), GRADIENT),
        html.escape(remarks),
    )


def _details(summary: str, inside: str) -> str:
    return (
        f'<details><summary style="cursor:pointer">{html.escape(summary)}</summary>'
        f'<div style="margin-left:16px">{inside}</div></details>'
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Rows of HTML; the head is text."""
    titles = "".join(f'<th style="{_HEAD}">{html.escape(h)}</th>' for h in head)
    lines = (
        "<tr>" + "".join(f'<td style="{_CELL}">{c}</td>' for c in row) + "</tr>"
        for row in rows
    )
    table = f"<tr>{titles}</tr>{''.join(lines)}"
    return f'<table style="border-collapse:collapse;margin:0 0 8px">{table}</table>'


def _coloured(text: str, colour: str) -> str:
    return f'<span style="color:{colour}">{text}</span>'
