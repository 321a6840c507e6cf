"""Paths of a model's parts, and patterns that stand for several of them."""

from __future__ import annotations

from fnmatch import fnmatchcase

__all__ = ["matches"]


def matches(pattern: str, path: str) -> bool:
    """Whether a path is one that the pattern stands for.

    A pattern is a path, and with it all that lies under it; ``*`` matches any text.

    Example:
        >>> matches("layers.0", "layers.0.weight"), matches("layers.1", "layers.10.b")
        (True, False)
        >>> matches("*.bias", "layers.10.bias")
        True
    """
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")
