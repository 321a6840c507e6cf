"""Contestants take turns: each in a process of its own, one awake at a time."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from contestants import Setting
from machine import NUM_CORES, memory_bytes

CALL_S = 0.03  # about how long one call of a turn lasts
TIMED_CALLS = 3
START_LIMIT_S = 300
ANSWER_LIMIT_S = 300
END_LIMIT_S = 10


class ContestantError(Exception):
    """A contestant cannot take part; the text says why."""


class Player:
    """A contestant with one choice of flags, in its own process.

    Between its turns the process is stopped: threads of a pool that spin while they
    wait for work would take a core from whose turn it is.
    """

    def __init__(
        self, module: str, setting: Setting, folder: Path, num_agreeing: int = 100
    ) -> None:
        self.module = module
        self.setting = setting
        self.folder = folder
        self.count = self.num_agreeing = num_agreeing
        """How many steps a call takes; at first, those whose losses are compared."""
        self.process: subprocess.Popen[bytes] | None = None
        self.reason = ""
        """Why it is out of the game, if it is."""
        self.version = ""
        self.losses: list[float] = []
        self.times_s: list[float] = []
        self.added_bytes = 0
        """The most memory it held beyond its library and the problem."""

    @property
    def time_s(self) -> float:
        """Seconds of a step: the median over all turns."""
        return median(self.times_s)

    def start(self) -> float:
        """Start the process and take the first steps, whose losses are kept.

        Returns the seconds from nothing until they were done.
        """
        began = time.perf_counter()
        script = Path(__file__).with_name("contestant.py")
        options = json.dumps(self.setting.options)
        self.log = (self.folder / f"{id(self)}.log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(script), self.module, options, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=self.setting.environment(),
            bufsize=0,
        )
        ready = self._answer(START_LIMIT_S)
        self.version, self.num_steps = ready["version"], ready["num_steps"]
        self.held_bytes = ready["held_bytes"]
        self.losses = self._ask(self.count, 1, START_LIMIT_S)["losses"]
        time_s = time.perf_counter() - began
        self._stop()
        return time_s

    @property
    def peak_bytes(self) -> int:
        """The most memory that the process has held."""
        return memory_bytes("VmHWM", self.process.pid)

    def find_count(self) -> None:
        """Choose how many steps make a call that lasts long enough to be timed well."""
        self._continue()
        time_s = self._ask(self.num_agreeing, 1)["times_s"][0] / self.num_agreeing
        self.count = min(max(1, round(CALL_S / time_s)), self.num_steps)
        self._ask(self.count, 1)  # some compile for a number of steps
        self._stop()

    def take_turn(self) -> None:
        """Some calls, of which the first is not timed: the caches are another's."""
        self._continue()
        times_s = self._ask(self.count, 1 + TIMED_CALLS)["times_s"]
        self._stop()
        self.times_s.append(median(times_s[1:]) / self.count)
        self.added_bytes = self.peak_bytes - self.held_bytes

    def leave(self) -> None:
        """End the process."""
        if self.process is not None:
            self._continue()
            self.process.stdin.close()  # which ends it, after it has tidied up
            try:
                self.process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
            self.process = None
            self.log.close()

    # -------------------------------------------------------------- the other end

    def _ask(self, count: int, calls: int, limit_s: float = ANSWER_LIMIT_S) -> Any:
        request = json.dumps({"count": count, "calls": calls}) + "\n"
        try:
            self.process.stdin.write(request.encode())
        except BrokenPipeError as error:
            raise self._failure() from error
        return self._answer(limit_s)

    def _answer(self, limit_s: float) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], limit_s)
            if not readable:
                raise ContestantError(f"no answer in {limit_s} s")
            part = os.read(self.process.stdout.fileno(), 1 << 20)
            if not part:
                raise self._failure()
            line += part
        answer = json.loads(line)
        if "error" in answer:
            raise ContestantError(answer["error"])
        return answer

    def _failure(self) -> ContestantError:
        self.process.wait()
        self.log.seek(0)
        last = self.log.read().strip().splitlines()[-1:] or [""]
        return ContestantError(f"ended with {self.process.returncode}: {last[0]}")

    def _stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        # It takes effect later than the call returns.
        how = os.WSTOPPED | os.WEXITED | os.WNOWAIT
        os.waitid(os.P_PID, self.process.pid, how)

    def _continue(self) -> None:
        self.process.send_signal(signal.SIGCONT)


def attempt(player: Player, action: Callable[[Player], object]) -> None:
    """Let a player do something, unless it is out; who fails is out."""
    if not player.reason:
        try:
            action(player)
        except ContestantError as error:
            player.reason = str(error)
            player.leave()  # what did not answer in time may still be at work


def start_all(players: Sequence[Player]) -> None:
    """Start players, as many at a time as there are cores, then prepare their turns."""
    with ThreadPoolExecutor(NUM_CORES) as pool:
        list(pool.map(lambda player: attempt(player, Player.start), players))
    for player in players:
        attempt(player, Player.find_count)


def play(players: Sequence[Player], num_rounds: int) -> None:
    """Rounds in which everyone has a turn, in an order that is drawn anew."""
    rng = random.Random(0)
    for _ in range(num_rounds):
        for player in rng.sample(players, len(players)):
            attempt(player, Player.take_turn)
