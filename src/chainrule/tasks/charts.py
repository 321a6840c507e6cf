"""Charts and small pictures as text that stands inside an HTML page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.explanation.picture import coloured, spread

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves", "map_urls", "picture_url", "scatter", "strengths", "template_urls"]

Array = np.ndarray[Any, Any]

# Stand for the page's colours, which depend on the reader's light or dark theme.
_INK, _BLUE, _ORANGE = "#010203", "#040506", "#070809"
_COLOURS = {
    _INK: "currentColor",
    _BLUE: "rgb(var(--blue))",
    _ORANGE: "rgb(var(--orange))",
}
_MAX_POINTS = 2000
_MAX_SIDE = 128


def curves(
    name: str,
    epochs: Sequence[int],
    series: Mapping[str, Sequence[float]],
    best: int | None,
) -> Markup:
    """Lines over epochs, the best epoch marked, as SVG.

    Training is dashed and validation solid, so that print without colour is enough.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = _chart(5.4, 3.1)
    styles = {"training": (_ORANGE, "--"), "validation": (_BLUE, "-")}
    marker = "o" if len(epochs) == 1 else None
    for part, values in series.items():
        colour, line = styles[part]
        axes.plot(epochs, values, line, color=colour, lw=1.8, marker=marker, label=part)
    if best is not None:
        axes.axvline(best, color=_INK, lw=0.8, ls=":")
        decisive = series.get("validation", next(iter(series.values())))
        axes.plot(
            best,
            decisive[list(epochs).index(best)],
            "o",
            ms=7,
            mfc="none",
            mec=_INK,
            mew=1.4,
            label=f"best: epoch {best}",
        )
    finite = np.array([v for values in series.values() for v in values])
    finite = finite[np.isfinite(finite)]
    if name == "loss" and finite.min() > 0 and finite.max() > 30 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, labelcolor=_INK, fontsize=10)
    return _svg(figure)


def strengths(
    option: str,
    values: Sequence[float],
    series: Mapping[str, Sequence[float]],
    trained: float,
    score: str,
) -> Markup:
    """Lines over the strength of a damage, the trained one marked, as SVG."""
    figure, axes = _chart(5.4, 3.4)
    styles = [(_BLUE, "-", "o"), (_INK, ":", "s"), (_ORANGE, "--", "^")]
    for (name, row), (colour, line, marker) in zip(
        series.items(), styles, strict=False
    ):
        axes.plot(
            values, row, line, color=colour, lw=1.8, marker=marker, ms=4.5, label=name
        )
    axes.axvline(trained, color=_INK, lw=0.8, ls=":", label=f"trained on {trained:g}")
    axes.set_xlabel(option)
    axes.set_ylabel(score)
    axes.legend(frameon=False, labelcolor=_INK, fontsize=10)
    return _svg(figure)


def scatter(true: Array, predicted: Array) -> Markup:
    """Predicted against true numbers with the line where they agree, as SVG."""
    figure, axes = _chart(5.4, 4.4)
    step = -(-len(true) // _MAX_POINTS)
    finite = np.concatenate([true, predicted])
    finite = finite[np.isfinite(finite)]
    if len(finite):
        ends = (float(finite.min()), float(finite.max()))
        axes.plot(ends, ends, color=_INK, lw=0.8, ls=":", label="predicted = true")
        axes.legend(frameon=False, labelcolor=_INK, fontsize=10)
    axes.plot(
        true[::step], predicted[::step], "o", color=_BLUE, ms=3.5, mew=0, alpha=0.55
    )
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    return _svg(figure)


def _chart(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty chart without the frame's upper and right sides; size in inches."""
    from matplotlib.figure import Figure  # without pyplot: no global state, no window

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=10)
    axes.xaxis.label.set(color=_INK, size=11)
    axes.yaxis.label.set(color=_INK, size=11)
    axes.grid(True, color=_INK, alpha=0.12, lw=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure) -> Markup:
    """A figure as SVG in the page's own font and text colour."""
    import matplotlib
    from markupsafe import Markup

    buffer = io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "chainrule"}
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    # Every figure has the same names for its groups; a page may have a name only once.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    # The page says how wide a chart is.
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    return Markup(text)


def picture_url(picture: Array, max_side: int = _MAX_SIDE) -> str:
    """A picture (h, w, c) as a data URL, shrunk where it is large.

    Numbers other than uint8 are spread from black to white; other numbers of channels
    than 1 and 3 are averaged.
    """
    # Imported here: a page without pictures needs no Pillow.
    from PIL import Image

    if picture.shape[-1] != 3:
        picture = picture.mean(axis=-1).astype(picture.dtype)
    image = Image.fromarray(picture if picture.dtype == np.uint8 else spread(picture))
    if max(image.size) > max_side:
        image.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def template_urls(templates: Array) -> list[str]:
    """Weights (k, h, w, c) as pictures, each in its own range.

    One channel: blue is below 0, red above, white is 0. Three: from the smallest
    weight, black, to the largest. Other numbers of channels are summed to one.
    """
    return [picture_url(coloured(t.astype(np.float64))) for t in templates]


def map_urls(maps: Array) -> list[str]:
    """Activations (k, h, w) as grey pictures, the largest of all of them white."""
    return [picture_url(m[..., None]) for m in spread(maps)]
