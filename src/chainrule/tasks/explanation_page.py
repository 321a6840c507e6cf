"""The page of an explanation: one HTML file that opens anywhere, off-line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explanation.features import Attribution
from chainrule.explanation.picture import spread
from chainrule.tasks.charts import map_urls, picture_url
from chainrule.tasks.report import write_html

if TYPE_CHECKING:
    from chainrule.tasks.explained import RunExplanation

__all__ = ["write_page"]

Array = np.ndarray[Any, Any]

_MAX_SIDE = 256


def write_page(path: Path, found: RunExplanation) -> None:
    """Write the page, whole or not at all; raises FileError if it cannot be."""
    case = found.case
    write_html(
        path,
        "explanation.html",
        found=found,
        case=case,
        url=_url(case.picture),
        attributions=[_attribution(a) for a in found.attributions],
        units=_units(found),
        layers=_layers(found),
        layer=found.layer,
        is_picture=case.picture.ndim == 3,
    )


def _url(picture: Array) -> str:
    """A picture; of a row of numbers a strip of grey."""
    if picture.ndim != 3:
        picture = spread(picture.reshape(1, -1, 1))
    return picture_url(picture, max_side=_MAX_SIDE)


def _attribution(found: Attribution) -> dict[str, Any]:
    colours = found.coloured()
    title, *told = str(found).splitlines()
    return {
        "title": title.partition(":")[0],
        "told": told,
        "url": picture_url(colours, max_side=max(colours.shape)),
        "size": colours.shape[:2],
        "marks": found.marks,
        "mark_size": max(0.8, colours.shape[1] / 28),
    }


def _units(found: RunExplanation) -> list[dict[str, Any]]:
    """The units that matter most: their map, what excites them, what they like."""
    layer, made = found.layer, found.visualised
    if layer is None:
        return []
    rows = []
    for i, told in enumerate(found.units_told()):
        unit = layer.units[i]
        name, _, more = told.partition(": ")
        row: dict[str, Any] = {"name": name, "told": more.split("; "), "map": None}
        if layer.output.ndim == 3:
            row["map"] = map_urls(layer.output[None, ..., unit])[0]
        if found.exciting:
            most = found.exciting[i]
            row["patches"] = _looked_at(most.patches)
            row["captions"] = [
                f"{most.names[k]}, {value:.3g}" if most.names else f"{value:.3g}"
                for k, value in enumerate(most.values)
            ]
        if made is not None:
            row["made"] = _looked_at([made.patches[i]])[0]
            row["value"] = f"{made.values[i]:.3g}"
        rows.append(row)
    return rows


def _looked_at(patches: Sequence[Array]) -> list[str]:
    return [_url(_levels(patch)) for patch in patches]


def _levels(picture: Array) -> Array:
    """Numbers from 0 to 255 as they are, others as they lie in their own range."""
    if picture.dtype == np.uint8 or picture.ndim != 3:
        return picture
    channels = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1]
    if channels.min() >= 0 and 1 < channels.max() <= 255:
        return np.rint(channels).astype(np.uint8)
    return channels


def _layers(found: RunExplanation) -> list[dict[str, Any]]:
    norms = [row.gradient_norm for row in found.inside.layers]
    largest = max(norms, default=0.0) or 1.0
    return [
        {
            "path": row.path,
            "layer": row.layer,
            "shape": "×".join(map(str, row.output.shape)),
            "zero": f"{100 * row.zero_share:.0f}",
            "saturated": ""
            if row.saturated_share is None
            else f"{100 * row.saturated_share:.0f}",
            "norm": f"{norm:.3g}",
            "share": f"{100 * norm / largest:.1f}",
            "is_asked": found.layer is not None and row.path == found.layer.path,
        }
        for row, norm in zip(found.inside.layers, norms, strict=True)
    ]
