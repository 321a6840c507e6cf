"""From nothing to the first finished step of mnist_mlp_100: how long, how much memory.

    python benchmarks/cold.py [--json FILE]

The time runs from the start of the process until its first step is done: Python,
imports, reading a 10,000×784 float32 array, compiling. "Cold" begins with an empty
cache of compiled code, "from its cache" with one that an earlier process has filled.
Everyone starts once before the times that count, so that files are in memory and
Python's own bytecode is there. The starts alternate; medians are printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import machine
from contestants import Setting
from problems import write_problem
from turns import Player
from workloads import WORKLOADS


@dataclass(frozen=True)
class Start:
    """Who starts, and which variable names its cache, if it has one."""

    name: str
    module: str
    options: dict[str, object]
    cache_variable: str = ""
    keeps_cache: bool = False


_OURS = ("with_chainrule", {"compiled": True}, "CHAINRULE_CACHE_DIR")
_JAX = ("with_jax", {"scan": False}, "JAX_COMPILATION_CACHE_DIR")

STARTS = [
    Start("chainrule compiled, cold", *_OURS),
    Start("chainrule compiled, from its cache", *_OURS, keeps_cache=True),
    Start("jax jit, cold", *_JAX),
    Start("jax jit, from its cache", *_JAX, keeps_cache=True),
    Start("pytorch eager", "with_torch", {"threads": machine.NUM_CORES}),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9, help="starts of each (9)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results there")
    arguments = parser.parse_args()
    print(machine.description())
    print(f"busy processes in the last minute: {machine.load():.1f}")
    found: dict[str, list[tuple[float, float]]] = {s.name: [] for s in STARTS}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_problem(WORKLOADS["mnist_mlp_100"], folder, num_epochs=1)
        for start in STARTS * (1 + arguments.rounds):
            found[start.name].append(first_step(start, folder))
    results = {}
    for name, values in found.items():
        times_s, peaks_bytes = zip(*values[1:], strict=True)
        time_s, peak_mb = median(times_s), median(peaks_bytes) / 1e6
        print(f"  {name:36} {time_s:6.3f} s  {peak_mb:6.0f} MB at most")
        results[name] = {"time_s": time_s, "peak_mb": peak_mb}
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def first_step(start: Start, folder: Path) -> tuple[float, float]:
    """Seconds until the first step was done, and the most bytes held until then."""
    variables = {}
    with tempfile.TemporaryDirectory() as empty:
        if start.cache_variable:
            kept = folder / start.cache_variable
            variables[start.cache_variable] = str(kept) if start.keeps_cache else empty
            # JAX keeps only what took long to compile, unless told otherwise.
            variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        setting = Setting(start.options, variables)
        player = Player(start.module, setting, folder, num_agreeing=1)
        try:
            return player.start(), player.peak_bytes
        finally:
            player.leave()


if __name__ == "__main__":
    main()
