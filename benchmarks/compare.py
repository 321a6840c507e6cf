"""How long a training step takes in chainrule and in its peers, side by side.

    python benchmarks/compare.py                         # every workload
    python benchmarks/compare.py twenty_line mnist_mlp_100 --json times.json

Each contestant is a process of its own, and one of them runs at a time. Each first
tries its flags, a few turns with each choice; then the best of every contestant take
turns in an order that is drawn anew in every round. The time of a step is the median
over all turns. All start from the same weights and pick the same minibatches, and each
of their first losses must be that of a reference, within 1e-4 of it: NumPy's for 100
steps of dense networks; for the fewer steps that convolutional ones can agree
(workloads.py says why), those of PyTorch in float64.

``ratio_to_best_peer`` is the time of the fastest peer divided by that of compiled
chainrule: above 1, chainrule is faster. It is null, and the exit status 1, unless all
of PyTorch, JAX, TensorFlow and, for dense networks, NumPy ran with the same losses, and
the data from which minibatches are picked are larger than the level-2 caches.

MB is the most memory that a contestant held, less what it held with its library
imported and the problem read.

Times mean something only on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import machine
import numpy as np
from contestants import NAMES, contestants, reference
from problems import write_problem
from turns import ContestantError, Player, play, start_all
from workloads import WORKLOADS, Workload

TOLERANCE = 1e-4
NUM_HEATS = 3
CLOSE = 1.15  # flags that are slower by less may still be the best: noise is as large
LARGE_BYTES = 10**9  # of a contestant, which waits in memory until its turn
SLOWER = "slower than with other flags"
OURS = "chainrule compiled"


@dataclass
class Row:
    """What was found out about one workload."""

    workload: Workload
    data: str
    """Which data they are, in words."""
    players: dict[str, Player] = field(default_factory=dict)
    """The contestants that finished, each with the best of its flags."""
    differences: dict[str, float] = field(default_factory=dict)
    """The largest relative difference of a loss from the reference's."""
    failed: dict[str, str] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @property
    def best_peer(self) -> str | None:
        entered = contestants(self.workload)
        peers = [c.name for c in entered if c.is_peer and c.name in self.players]
        return min(peers, key=self.time_s, default=None)

    @property
    def ratio(self) -> float | None:
        """The best peer's time divided by ours, if the comparison counts."""
        if self.objections() or self.best_peer is None:
            return None
        return self.time_s(self.best_peer) / self.time_s(OURS)

    def objections(self) -> list[str]:
        """Why the comparison does not count."""
        found = [
            f"{contestant.name} did not run"
            for contestant in contestants(self.workload)
            if contestant.is_required and contestant.name not in self.players
        ]
        size = self.workload.data_bytes
        # A full batch is read again in every step, whatever its size.
        if not self.workload.is_full_batch and size <= machine.l2_bytes():
            found.append("the data are not larger than the level-2 caches")
        return found

    def time_s(self, name: str) -> float:
        return self.players[name].time_s

    def gflops(self, name: str) -> float:
        return self.workload.flops / self.time_s(name) / 1e9

    def added_mb(self, name: str) -> float:
        """The most memory held, less what the library and the problem take."""
        return self.players[name].added_bytes / 1e6

    def as_json(self, peak_gflops: float) -> dict[str, object]:
        names = sorted(self.players, key=self.time_s)
        return {
            "times_us": {name: self.time_s(name) * 1e6 for name in names},
            "best_peer": self.best_peer,
            "ratio_to_best_peer": self.ratio,
            "objections": self.objections(),
            "flags": {name: str(self.players[name].setting) for name in names},
            "versions": {name: self.players[name].version for name in names},
            "gflops": {name: self.gflops(name) for name in names},
            "peak_gflops": peak_gflops,
            "added_mb": {name: self.added_mb(name) for name in names},
            "loss_differences": {name: self.differences[name] for name in names},
            "failed": self.failed,
            "absent": self.absent,
            "data": self.data,
            "machine": machine.description(),
        }


def compare(workload: Workload, num_rounds: int, only: Sequence[str] = ()) -> Row:
    """Run one workload on every contestant, or on those of ``only``."""
    groups: dict[str, list[Player]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row = Row(workload, write_problem(workload, folder))
        show(f"{workload.name}: the reference's losses")
        expected = reference_losses(workload, folder)
        try:
            for contestant in contestants(workload):
                if only and contestant.name not in only:
                    continue
                if not contestant.is_installed:
                    row.absent.append(contestant.name)
                elif reason := contestant.cannot(workload):
                    row.failed[contestant.name] = f"cannot express it: {reason}"
                else:
                    show(f"{workload.name}: {contestant.name} tries its flags")
                    groups[contestant.name] = group = [
                        Player(contestant.module, s, folder, workload.num_agreeing)
                        for s in contestant.settings
                    ]
                    choose_flags(group, expected)
            show(f"{workload.name}: {num_rounds} rounds")
            finalists = [p for group in groups.values() for p in group if not p.reason]
            play(finalists, num_rounds)
        finally:
            for group in groups.values():
                for player in group:
                    player.leave()
    for name, group in groups.items():
        finished = [player for player in group if not player.reason]
        if finished:
            best = min(finished, key=lambda player: player.time_s)
            row.players[name] = best
            row.differences[name] = largest_difference(best, expected)
        else:
            row.failed[name] = group[0].reason
        for player in group:
            if finished and player.reason not in ("", SLOWER):
                row.failed[f"{name} {player.setting}"] = player.reason
    return row


def reference_losses(workload: Workload, folder: Path) -> np.ndarray:
    """What the first losses should be; NaN, which nothing agrees with, if unknown."""
    judge = reference(workload)
    player = Player(judge.module, judge.settings[0], folder, workload.num_agreeing)
    try:
        player.start()
    except ContestantError as error:
        print(f"no losses from {judge.name}: {error}")
        return np.full(workload.num_agreeing, np.nan)
    finally:
        player.leave()
    return np.array(player.losses)


def choose_flags(group: Sequence[Player], expected: np.ndarray) -> None:
    """Start a contestant with all its flags; only the fast ones stay in the game."""
    start_all(group)
    for player in group:
        if not player.reason:
            difference = largest_difference(player, expected)
            if not difference <= TOLERANCE:
                player.reason = f"its losses differ by {difference:.1e}"
                player.leave()
    play(group, NUM_HEATS)
    in_game = [player for player in group if not player.reason]
    best_s = min((player.time_s for player in in_game), default=0.0)
    for player in in_game:
        # Of large ones only the best stays: there is not room for all.
        factor = CLOSE if player.peak_bytes < LARGE_BYTES else 1.0
        if player.time_s > factor * best_s:
            player.reason = SLOWER
            player.leave()
        player.times_s.clear()


def largest_difference(player: Player, expected: np.ndarray) -> float:
    """The largest relative difference of a loss of the first steps."""
    return float(np.max(np.abs(np.array(player.losses) - expected) / np.abs(expected)))


# ----------------------------------------------------------------------- printing


def show(text: str) -> None:
    """Say what is being done, where it does not get into the tables."""
    if sys.stderr.isatty():
        print(f"\x1b[2K\r{text}", end="", file=sys.stderr, flush=True)


def print_row(row: Row, peak_gflops: float) -> None:
    show("")
    print(f"\n{row.workload.name}: {row.workload}")
    print(f"  {row.data}, {row.workload.data_bytes / 1e6:.1f} MB")
    heading = f"{'µs a step':>10} {'× best peer':>12} {'GFLOP/s':>8} {'of peak':>8}"
    print(f"  {'':18} {heading} {'MB':>6} {'losses':>8}  best with")
    for name in sorted(row.players, key=row.time_s):
        time_us = row.time_s(name) * 1e6
        best = row.time_s(row.best_peer) / row.time_s(name) if row.best_peer else np.nan
        share = row.gflops(name) / peak_gflops
        print(
            f"  {name:18} {time_us:10.1f} {best:12.2f} {row.gflops(name):8.1f}"
            f" {share:8.0%} {row.added_mb(name):6.0f} {row.differences[name]:8.0e}"
            f"  {row.players[name].setting}"
        )
    for name, reason in row.failed.items():
        print(f"  {name:18} {reason}")
    if row.absent:
        print(f"  not installed: {', '.join(row.absent)}")
    if row.ratio is None:
        print(f"  no ratio: {'; '.join(row.objections())}")
    else:
        print(f"  {OURS}: {row.ratio:.2f} × as fast as the best peer, {row.best_peer}")


def print_conditions(peak_gflops: float) -> None:
    print(machine.description())
    print(f"peak {peak_gflops:.0f} GFLOP/s: NumPy's product of 1024×1024, best of 40")
    print(f"busy processes in the last minute: {machine.load():.1f}")
    flags = " ".join(f"{key}={value}" for key, value in machine.COMMON.items())
    print(f"environment of all: {flags}; unset: {' '.join(machine.REMOVED)}")
    print("PyTorch flushes denormal numbers; TensorFlow and JAX do it by themselves")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(WORKLOADS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results there")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each (20)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CONTESTANT",
        choices=NAMES,
        help="run this one; may be repeated; there is no ratio then",
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in WORKLOADS:
            parser.error(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    peak_gflops = machine.peak_gflops()
    print_conditions(peak_gflops)
    results = {}
    is_complete = True
    for name in arguments.names or WORKLOADS:
        row = compare(WORKLOADS[name], arguments.rounds, arguments.only)
        print_row(row, peak_gflops)
        results[name] = row.as_json(peak_gflops)
        is_complete = is_complete and row.ratio is not None
        if arguments.json:  # after each row: a run that is stopped keeps what it has
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
