"""How names and numbers are written: subscripts, hats, short decimals."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["latex_name", "number", "pretty_name"]

_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_HAT = "\N{COMBINING CIRCUMFLEX ACCENT}"


def _parts(name: str) -> tuple[str, bool, str]:
    """(letters, whether a hat follows, digits) of a name such as yhat2."""
    match = re.fullmatch(r"(.+?)(_?hat)?_?(\d*)", name)
    assert match is not None  # the first group takes whatever is there
    letters, hat, digits = match.groups()
    return letters, bool(hat), digits


def pretty_name(name: str) -> str:
    """A name as a lecture writes it.

    Example:
        >>> pretty_name("w1"), pretty_name("yhat"), pretty_name("loss")
        ('w₁', 'ŷ', 'loss')
    """
    letters, has_hat, digits = _parts(name)
    if has_hat:
        letters = unicodedata.normalize("NFC", letters + _HAT)
    return letters + digits.translate(_SUBSCRIPTS)


def latex_name(name: str) -> str:
    r"""A name as LaTeX.

    Example:
        >>> print(latex_name("w1"), latex_name("yhat"), latex_name("loss"))
        w_{1} \hat{y} \mathrm{loss}
    """
    letters, has_hat, digits = _parts(name)
    letters = letters.replace("_", r"\_")
    text = letters if len(letters) == 1 else rf"\mathrm{{{letters}}}"
    text = rf"\hat{{{text}}}" if has_hat else text
    return text + (f"_{{{digits}}}" if digits else "")


def number(value: float) -> str:
    """A number with up to six digits.

    Example:
        >>> number(80.0), number(-0.19661193)
        ('80', '-0.196612')
    """
    return f"{value:.6g}"
