"""The processor that code is made for: its vectors and its registers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from chainrule.errors import OptionError

__all__ = ["TARGETS", "Target", "host_target"]


@dataclass(frozen=True)
class Target:
    """How wide vectors are and how large a tile the registers hold.

    Args:
        name: as ``CHAINRULE_TARGET`` names it.
        vector_bytes: the size of one vector register.
        num_registers: how many of them there are.
        cpu: LLVM's name of a processor; "" for the one this runs on.
        features: LLVM's feature string; "" for the processor's own.
    """

    name: str
    vector_bytes: int
    num_registers: int
    cpu: str = ""
    features: str = ""

    def lanes(self, element: str) -> int:
        """Elements of this LLVM type in one vector."""
        return self.vector_bytes // (8 if element in ("double", "i64") else 4)


TARGETS = {
    "avx512": Target("avx512", 64, 32),
    "avx2": Target("avx2", 32, 16, "haswell", ""),
    "neon": Target("neon", 16, 32),
    "generic": Target("generic", 16, 16, "x86-64"),
}
"""Every target by name; a test can choose any that its machine can run."""


@cache
def host_target() -> Target:
    """The best target of this machine, or the one that ``CHAINRULE_TARGET`` names.

    Raises OptionError for an unknown name, or one that this machine cannot run.
    """
    name = os.environ.get("CHAINRULE_TARGET", "").strip().lower()
    usable = usable_targets()
    if name:
        if name not in TARGETS:
            raise OptionError.unknown("CHAINRULE_TARGET", name, TARGETS)
        if name not in usable:
            raise OptionError(
                "CHAINRULE_TARGET: this processor does not have it",
                got=name,
                expected="one of " + ", ".join(usable),
            )
        return TARGETS[name]
    return TARGETS[usable[0]]


@cache
def usable_targets() -> tuple[str, ...]:
    """The names of the targets that this machine can run, best first."""
    import llvmlite.binding as llvm  # costs 76 ms; nothing else here needs it

    triple = llvm.get_process_triple()
    if triple.startswith(("aarch64", "arm64")):
        return ("neon",)
    if not triple.startswith("x86_64"):
        return ("generic",)
    features = llvm.get_host_cpu_features()
    found = []
    wide = ("avx512f", "avx512vl", "avx512bw", "avx512dq")
    if all(features.get(f) for f in wide):
        found.append("avx512")
    if features.get("avx2") and features.get("fma"):
        found.append("avx2")
    return (*found, "generic")
