"""How many threads chainrule may use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from chainrule.errors import OptionError

__all__ = ["num_threads"]

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def num_threads() -> int:
    """``CHAINRULE_NUM_THREADS``, or the physical cores that this process may use.

    Two hardware threads of one core count once: they share its arithmetic units. On
    Linux, processors outside the process's affinity do not count, and a cgroup's quota
    of processor time is an upper bound, rounded down, because threads over quota are
    stopped for most of each period.

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
        cores = _num_cores(os.sched_getaffinity(0))
        return max(1, int(min(cores, _quota())))
    return os.cpu_count() or 1


def _num_cores(processors: Iterable[int]) -> int:
    """The physical cores to which these processors belong."""
    return len({_siblings(processor) for processor in processors})


def _siblings(processor: int) -> str:
    try:
        topology = _CPUS / f"cpu{processor}" / "topology"
        return (topology / "thread_siblings_list").read_text().strip()
    except OSError:  # not told: a core of its own
        return str(processor)


def _quota() -> float:
    """Processors' worth of time that the process's cgroups grant it; often infinite."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return float("inf")
    quota = float("inf")
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root = _CGROUPS
        elif "cpu" in controllers.split(","):
            root = _CGROUPS / "cpu"
        else:
            continue
        # A group grants no more than those it is in. In a container, the path may be
        # the host's, and the container's own group is mounted as the root.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            quota = min(quota, _granted(folder))
            if folder == root:
                break
    return quota


def _granted(folder: Path) -> float:
    """Processors' worth of time that one group grants, in either version's files."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            words = " ".join((folder / name).read_text() for name in names).split()
            quota_us, period_us = int(words[0]), int(words[1])
        except (OSError, ValueError, IndexError):  # absent, or "max"
            continue
        if quota_us > 0 and period_us > 0:  # -1: without limit
            return quota_us / period_us
    return float("inf")
