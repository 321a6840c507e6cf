"""How many threads chainrule may use."""

from __future__ import annotations

import os

from chainrule.errors import OptionError

__all__ = ["num_threads"]


def num_threads() -> int:
    """``CHAINRULE_NUM_THREADS``, or the processors that this process may run on.

    Raises OptionError if the variable is not a whole number of at least 1.
    """
    text = os.environ.get("CHAINRULE_NUM_THREADS", "").strip()
    if text:
        if not text.isdecimal() or int(text) < 1:
            raise OptionError(
                "environment variable CHAINRULE_NUM_THREADS: not a number of threads",
                got=repr(text),
                expected="a whole number of at least 1",
            )
        return int(text)
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
