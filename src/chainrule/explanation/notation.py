"""How names and numbers are written: subscripts, hats, entries, short decimals."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core.spec import integers
from chainrule.errors import OptionError

__all__ = [
    "array_text",
    "check_digits",
    "entry_name",
    "latex_name",
    "number",
    "pretty_name",
]

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_MAX_SHOWN = 100
_MAX_DIGITS = 17  # those that tell one float64 from any other
_HAT = "\N{COMBINING CIRCUMFLEX ACCENT}"


def _parts(name: str) -> tuple[str, bool, str, str]:
    """(letters, whether a hat follows, digits, entry) of a name such as yhat2[0,1]."""
    match = re.fullmatch(r"(.+?)(_?hat)?_?(\d*)(\[[\d,]+\])?", name, re.DOTALL)
    assert match is not None  # the first group takes whatever is there
    letters, hat, digits, entry = match.groups()
    if "." in letters:  # a path of layers, which has no subscripts
        letters, hat, digits = name.removesuffix(entry or ""), "", ""
    return letters, bool(hat), digits, entry or ""


def pretty_name(name: str) -> str:
    """A name as a lecture writes it.

    Example:
        >>> pretty_name("w1"), pretty_name("yhat"), pretty_name("W2[0,3]")
        ('w₁', 'ŷ', 'W₂[0,3]')
        >>> pretty_name("stage1.conv1")
        'stage1.conv1'
    """
    letters, has_hat, digits, entry = _parts(name)
    if has_hat:
        letters = unicodedata.normalize("NFC", letters + _HAT)
    return letters + digits.translate(_SUBSCRIPTS) + entry


def latex_name(name: str) -> str:
    r"""A name as LaTeX.

    Example:
        >>> print(latex_name("w1"), latex_name("yhat"), latex_name("loss[3]"))
        w_{1} \hat{y} \mathrm{loss}[3]
    """
    letters, has_hat, digits, entry = _parts(name)
    # What would be an order to LaTeX becomes a space.
    letters = re.sub(r"([_%])", r"\\\1", re.sub(r"[\\#&~^{}$\s]", " ", letters))
    text = letters if len(letters) == 1 else rf"\mathrm{{{letters}}}"
    text = rf"\hat{{{text}}}" if has_hat else text
    return text + (f"_{{{digits}}}" if digits else "") + entry


def entry_name(name: str, place: Sequence[int]) -> str:
    """An entry of a named array; a single number keeps its name.

    Example:
        >>> entry_name("W1", (0, 3)), entry_name("loss", ())
        ('W1[0,3]', 'loss')
    """
    return f"{name}[{','.join(map(str, place))}]" if place else name


def array_text(values: Any, digits: int = 6) -> str:
    """A number, or the numbers of an array in brackets; of a large one how many.

    Example:
        >>> array_text(np.array([[1.0, 2.5], [0.0, 1 / 3]]))
        '[[1, 2.5], [0, 0.333333]]'
    """
    array = np.asarray(values)
    if array.size > _MAX_SHOWN:
        return f"{array.size} numbers of shape {list(array.shape)}"
    if not array.ndim:
        return number(float(array), digits)
    return f"[{', '.join(array_text(row, digits) for row in array)}]"


def number(value: float, digits: int = 6) -> str:
    """A number with up to ``digits`` digits.

    Example:
        >>> number(80.0), number(-0.19661193), number(1 / 3, 3)
        ('80', '-0.196612', '0.333')
    """
    return f"{value + 0.0:.{digits}g}"  # -0 is 0


def check_digits(digits: int) -> None:
    """Raise OptionError for a number of digits that no number is written with."""
    if not (1,) <= integers("explain", digits) <= (_MAX_DIGITS,):
        raise OptionError("explain: digits", got=digits, expected=f"1 to {_MAX_DIGITS}")
