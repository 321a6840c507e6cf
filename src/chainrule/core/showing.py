"""How notebooks show what lives on lower floors: a table that a higher floor fills."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["SHOWN"]

SHOWN: dict[str, Callable[[Any], str | None]] = {}
"""By what is made and of what, such as "svg of a graph": a function of the object."""
