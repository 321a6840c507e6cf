"""``explain``: the door to derivatives written out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from chainrule.core.backward import topological_order
from chainrule.core.graph import Tensor
from chainrule.core.spec import integers, is_float
from chainrule.errors import (
    DtypeError,
    GradientError,
    IndexingError,
    OptionError,
    ShapeError,
)
from chainrule.explanation.derivation import Explanation, Path
from chainrule.explanation.entries import derivative_of_entry
from chainrule.explanation.notation import check_digits, entry_name, number, pretty_name
from chainrule.explanation.paths import Paths
from chainrule.explanation.reading import expression, whole
from chainrule.explanation.span import Span
from chainrule.explanation.sums import Sums

__all__ = ["explain"]

_MAX_STATIONS = 200
"""On paths that are written to their end; longer ones are written step after step."""

Place = tuple[int, ...]
Entry = int | Sequence[int] | None


def explain(
    y: Tensor,
    wrt: Tensor,
    *,
    entry: Entry = None,
    of_entry: Entry = None,
    max_paths: int = 8,
    max_terms: int = 5,
    max_depth: int = 8,
    digits: int = 6,
    names: Mapping[str, Tensor] | None = None,
) -> Explanation:
    """Write out ∂y/∂wrt: every path, each factor's formula and number, product and sum.

    Name intermediate values (``f.name = "f"``) to have one factor for each name;
    without names every gate is one. Of single numbers, every path is written to its
    end, unless that is very long. Where arrays lie on the way, one entry of ``wrt`` is
    explained: what reads it, term by term, each a local derivative times the gradient
    that arrives there; then the largest of these gradients in the same way, up to y.

    Args:
        y: the value that is differentiated.
        wrt: a tensor that y was computed from, a leaf or not.
        entry: which entry of ``wrt``; else the one with the largest derivative.
        of_entry: which entry of ``y``, if that is an array.
        max_paths: how many paths of single numbers to write out; all are summed.
        max_terms: how many terms of each sum over entries; all are counted and summed.
        max_depth: how many sums or products, one further up than the other.
        digits: how many digits numbers have.
        names: of tensors that have none, such as ``dict(model.named_parameters())``.

    Raises:
        ShapeError: if y is an array and ``of_entry`` does not say which entry, and for
            arrays without entries.
        IndexingError: for an entry that is not there.
        DtypeError: if y or wrt holds integers.
        GradientError: if y was computed without recording, or a variable was written
            after it was used.
        OptionError: for a limit below 1, and for more than 17 digits.

    Example:
        >>> import chainrule as cr
        >>> w = cr.Tensor(3.0, requires_grad=True, name="w")
        >>> f = w * 5
        >>> f.name = "f"
        >>> L = f * f
        >>> L.name = "L"
        >>> print(explain(L, wrt=w))
        ∂L/∂w = ∂f/∂w · ∂L/∂f = 5 · 30 = 150
        forward
          f = w·5 = 15
          L = f·f = 225
        backward
          ∂f/∂w = 5   [multiply switches]
          ∂L/∂f = 2·f = 30   [multiply switches]

    Source: stanford and toronto, the two-weight example; intellivision, gate patterns.
    """
    check_digits(digits)
    limits = {"max_paths": max_paths, "max_terms": max_terms, "max_depth": max_depth}
    for option, limit in limits.items():
        if integers("explain", limit) < (1,):
            raise OptionError(f"explain: {option}", got=limit, expected="1 or more")
    _check_tensors(y, wrt)
    if y.op is None and y is not wrt:
        raise _no_history(y)
    place = _place_in(y, of_entry, "of_entry")
    if place is None and y.size != 1:
        raise ShapeError(
            "explain: y is an array, and one number is explained at a time",
            got=y.spec,
            expected="a single number, or of_entry= for one entry",
            hint=f"of_entry={_example(y)}, one of {y.size}; or explain y.sum()",
        )
    chosen = _place_in(wrt, entry, "entry")
    span = Span.of(y, wrt, names)
    with np.errstate(all="ignore"):
        if y is wrt or not span.is_joined:
            return _trivial(span, place, chosen, digits)
        is_short = len(span.stations) <= _MAX_STATIONS
        if is_short and all(t.size == 1 for t in span.between):
            found = _of_numbers(span, max_paths)
        else:
            sums = Sums(span, place or (0,) * y.ndim, max_terms)
            start = sums.largest(wrt) if chosen is None else chosen
            found = derivative_of_entry(sums, start, max_depth)
        hints = found.hints + _not_finite(span, found)
    return replace(found, hints=hints).with_digits(digits)


def _of_numbers(span: Span, max_paths: int) -> Explanation:
    """∂y/∂wrt of single numbers: all paths."""
    paths = Paths(span)
    chosen = tuple(paths.first(max_paths))
    count = paths.counts[id(span.y)]
    value = paths.totals[id(span.y)]
    left_out = count > len(chosen)
    return Explanation(
        of=span.names[id(span.y)],
        wrt=span.names[id(span.wrt)],
        forward=tuple(paths.forward()),
        paths=chosen,
        num_paths=count,
        value=value,
        rest=value - sum(p.value for p in chosen) if left_out else 0.0,
        reason="" if count else _nothing_flows(span),
        hints=("more", f"  max_paths={2 * max_paths}: more paths") if left_out else (),
    )


def _nothing_flows(span: Span) -> str:
    """Why a span has no path: a gate without derivative."""
    for t in span.between:
        if t.op is not None and t.op.pattern.startswith("blocks"):
            return f"{t.op.name} {t.op.pattern.replace(':', ',')}"
    return "no gate on the way has a derivative"


def _trivial(
    span: Span, place: Place | None, chosen: Place | None, digits: int
) -> Explanation:
    """The derivative of a value by itself, or by what it does not depend on."""
    of = entry_name(span.names[id(span.y)], place or ())
    wrt = entry_name(span.names[id(span.wrt)], chosen or ())
    if span.y is span.wrt and of == wrt:
        return Explanation(of, wrt, (), (Path(()),), 1, 1.0, digits=digits)
    reason = f"{of} does not depend on {wrt}"
    if not span.wrt.requires_grad:
        reason += ", or what was made of it alone was not recorded: requires_grad=False"
    return Explanation(of, wrt, (), (), 0, 0.0, reason=reason, digits=digits)


def _not_finite(span: Span, found: Explanation) -> tuple[str, ...]:
    """Where the first number that is not finite came from, if the result is none."""
    values = [float(np.sum(span.y.data)), found.value]
    if all(map(math.isfinite, values)):
        return ()
    for t in topological_order([span.y]):
        is_bad = is_float(t.dtype) and ~np.isfinite(t.data)
        if not np.any(is_bad):
            continue
        place = tuple(map(int, np.argwhere(is_bad)[0]))
        name = span.names.get(id(t), "")
        shown = pretty_name(entry_name(name, place)) if name else ""
        value = number(float(t.data[place]))
        if t.op is None:
            return (f"not finite: {shown or 'a number that was given'} is {value}",)
        made = whole(expression(t, span.names, inside=True), t)
        what = f"{shown} = {made}" if shown else made
        return (f"not finite: {t.op.name} made the first, {what} = {value}",)
    return ("not finite: all values are, but a slope on the way is not",)


# ------------------------------------------------------------------------------ checks


def _check_tensors(y: Any, wrt: Any) -> None:
    for word, t in (("y", y), ("wrt", wrt)):
        if not isinstance(t, Tensor):
            raise DtypeError(
                f"explain: {word} is not a tensor",
                got=type(t).__name__,
                expected="a Tensor",
            )
        if not is_float(t.dtype):
            raise DtypeError(
                f"explain: only floats have derivatives, and {word} has none",
                got=f"{t.name or word}: {t.spec}",
                expected="float32 or float64",
                hint="make it a float before computing with it: x.astype('float32')",
            )
        if not t.size:
            raise ShapeError(
                f"explain: {word} has no entries", got=t.spec, expected="at least one"
            )


def _no_history(y: Tensor) -> GradientError:
    return GradientError(
        "explain: nothing was recorded of how this value was made",
        got=f"{y.spec} without a history",
        expected="the result of ops on tensors with requires_grad=True",
        hint="compute it outside no_grad(), and not with a compiled function but with "
        "the function itself: f.function(...)",
    )


def _place_in(t: Tensor, entry: Entry, option: str) -> Place | None:
    """An entry as indices from 0; raises IndexingError."""
    if entry is None:
        return None
    place = integers("explain", entry)
    inside = len(place) == t.ndim and all(
        -n <= i < n for i, n in zip(place, t.shape, strict=True)
    )
    if not inside:
        raise IndexingError(
            f"explain: {option} is not there",
            got=f"{option}={entry} of {t.name or 'a tensor'} {t.spec}",
            expected=f"{t.ndim} indices, as in {_example(t)}",
        )
    return tuple(i % n for i, n in zip(place, t.shape, strict=True))


def _example(t: Tensor) -> str:
    """The last entry, as one would write it."""
    return str(tuple(n - 1 for n in t.shape))
