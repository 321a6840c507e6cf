"""How compiled chainrule's time grows with the batch, and shrinks with a second core.

    python benchmarks/scaling.py [--json FILE]

Prints the time of a step on 1 thread divided by that on 2, and for growing batches the
time at twice the batch divided by the time at the batch. The exit status is 1 if a goal
is missed. As in compare.py, processes take turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import machine
from contestants import Setting
from problems import write_problem
from turns import ContestantError, Player, play, start_all
from workloads import WORKLOADS, Workload

_DENSE = (32, 64, 128, 256, 512, 1024)

# By what factor two threads shall be faster than one (the third is bound by memory),
# and the batches that are tried.
GOALS: dict[str, tuple[float, tuple[int, ...]]] = {
    "mnist_mlp_30_30_b128": (1.6, _DENSE),
    "inpaint_mlp": (1.6, _DENSE),
    "cifar_linear_softmax": (1.4, _DENSE),
    "mnist_cnn": (1.6, (16, 32, 64, 128, 256)),
    "cifar_resnet": (1.6, (32, 64, 128, 256)),
    "alexnet": (1.6, (4, 8, 16, 32)),
    "inpaint_conv": (1.6, (16, 32, 64, 128, 256)),
}
MOST_GROWTH = 2.2  # when the batch doubles


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(GOALS))
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results there")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in GOALS:
            parser.error(f"no goal for {name!r}; there are {', '.join(GOALS)}")
    print(machine.description())
    print(f"busy processes in the last minute: {machine.load():.1f}")
    results = {}
    is_met = True
    for name in arguments.names or GOALS:
        speedup, batches = GOALS[name]
        workload = WORKLOADS[name]
        one, two = times_us([(workload, 1), (workload, 2)], arguments.rounds)
        print(f"\n{name}: {one:.1f} µs on 1 thread, {two:.1f} on 2")
        print(f"  {one / two:.2f} × as fast on 2; goal: at least {speedup}")
        is_met = is_met and one / two >= speedup
        variants = [replace(workload, batch=n) for n in batches]
        times = times_us([(v, machine.NUM_CORES) for v in variants], arguments.rounds)
        growth = [later / earlier for earlier, later in pairwise(times)]
        print(f"  batch  {' '.join(f'{n:8}' for n in batches)}")
        print(f"  µs     {' '.join(f'{time_us:8.1f}' for time_us in times)}")
        print(f"  growth {' ' * 8} {' '.join(f'{value:8.2f}' for value in growth)}")
        print(f"  goal: at most {MOST_GROWTH}")
        is_met = is_met and max(growth) <= MOST_GROWTH
        results[name] = {
            "times_us": {"1 thread": one, "2 threads": two},
            "speedup": one / two,
            "batch_times_us": dict(zip(batches, times, strict=True)),
            "largest_growth": max(growth),
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if is_met else 1


def times_us(variants: list[tuple[Workload, int]], num_rounds: int) -> list[float]:
    """Microseconds of a step of each (workload, number of threads).

    Raises ContestantError.
    """
    players = []
    with tempfile.TemporaryDirectory() as name:
        try:
            for number, (workload, num_threads) in enumerate(variants):
                folder = Path(name) / str(number)
                write_problem(workload, folder)
                threads = {"CHAINRULE_NUM_THREADS": str(num_threads)}
                setting = Setting({"compiled": True}, threads)
                steps = workload.num_agreeing
                players.append(Player("with_chainrule", setting, folder, steps))
            start_all(players)
            play(players, num_rounds)
        finally:
            for player in players:
                player.leave()
    for player in players:
        if player.reason:
            raise ContestantError(player.reason)
    return [player.time_s * 1e6 for player in players]


if __name__ == "__main__":
    sys.exit(main())
