"""Every error chainrule raises, in one shape: what, got, expected, try.

Each class also subclasses a builtin, so that ``except ValueError`` keeps working.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CaptureError",
    "ChainruleError",
    "CheckpointError",
    "DataError",
    "DownloadError",
    "DtypeError",
    "FileError",
    "GradientError",
    "IndexingError",
    "MissingDependencyError",
    "NonFiniteError",
    "OptionError",
    "ShapeError",
    "counted",
    "nearest",
]


class ChainruleError(Exception):
    """Base of all errors: a small lesson in four fields.

    ``what`` says what was attempted and which rule it broke, ``got`` and ``expected``
    are the two sides of the disagreement, ``hint`` (printed as ``try:``) is the remedy.
    """

    def __init__(
        self, what: str, *, got: object, expected: object, hint: str | None = None
    ) -> None:
        self.what = what
        self.got = str(got)
        self.expected = str(expected)
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        fields = [("got", self.got), ("expected", self.expected)]
        if self.hint:
            fields.append(("try", self.hint))
        rows = [self.what]
        for label, text in fields:
            indented = text.replace("\n", "\n            ")
            rows.append(f"  {label + ':':<9} {indented}")
        return "\n".join(rows)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling of exceptions.
        return _rebuild, (type(self), self.what, self.got, self.expected, self.hint)


def _rebuild(
    cls: type[ChainruleError], what: str, got: str, expected: str, hint: str | None
) -> ChainruleError:
    return cls(what, got=got, expected=expected, hint=hint)


class ShapeError(ChainruleError, ValueError):
    """Sizes that do not fit together."""


class DtypeError(ChainruleError, TypeError):
    """An element type that the operation does not take."""


class IndexingError(ChainruleError, IndexError):
    """An index outside its axis, or of a kind that is not supported."""


class GradientError(ChainruleError, RuntimeError):
    """A derivative that does not exist or was asked for wrongly."""


class CaptureError(ChainruleError, RuntimeError):
    """A function that cannot be captured: it looks at values that are not there yet."""


class NonFiniteError(ChainruleError, ArithmeticError):
    """NaN or infinity where training needs a number."""


class OptionError(ChainruleError, ValueError):
    """An option or a name that chainrule does not know, or a value out of its range."""

    @classmethod
    def unknown(cls, kind: str, got: str, choices: Iterable[str]) -> OptionError:
        """The error for a name outside ``choices``, with the nearest one offered."""
        names = sorted(choices)
        near = nearest(got, names)
        return cls(
            f"unknown {kind} {got!r}",
            got=repr(got),
            expected="one of " + (", ".join(names) or "none: there is no name"),
            hint=f"did you mean {near!r}?" if near else None,
        )


class DataError(ChainruleError, ValueError):
    """A data set or a picture that cannot be used as it is."""


class FileError(ChainruleError, OSError):
    """A path that cannot be read or written."""

    # OSError.__str__ would print its own two arguments.
    __str__ = ChainruleError.__str__


class DownloadError(FileError):
    """A download that failed from every mirror, or that arrived damaged."""


class CheckpointError(ChainruleError, ValueError):
    """A run folder, checkpoint or weight file that does not fit."""


class MissingDependencyError(ChainruleError, ImportError):
    """An optional library that this feature needs and that is not installed."""

    __str__ = ChainruleError.__str__


def counted(count: int, noun: str) -> str:
    """A number of things in words: "1 example", "1,797 examples", "2 batches".

    Example:
        >>> counted(1, "epoch"), counted(3, "epoch"), counted(2, "patch")
        ('1 epoch', '3 epochs', '2 patches')
    """
    hisses = noun.endswith("ch") and noun != "epoch"
    ending = "" if count == 1 else "es" if hisses else "s"
    return f"{count:,} {noun}{ending}"


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most alike to ``name``, or None when none is close."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return found[0] if found else None
