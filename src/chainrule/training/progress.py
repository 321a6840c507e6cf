"""How training is going: a bar where it can move, lines where it cannot."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from chainrule.training.events import (
    EpochFinished,
    Event,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
)

__all__ = ["ProgressBar"]

_BAR = "{desc} {percentage:3.0f}% {bar:12} {rate_fmt}, {remaining} left{postfix}"
_NOT_SCORES = ("loss", "num_examples")


class ProgressBar:
    """A listener that shows loss, validation score, speed and time left.

    A terminal and a notebook get a bar over the whole run, and a line for an epoch at
    most every second. A log file gets one line for each epoch, and within long epochs
    one every ``interval_s``.

    Args:
        score: the validation score to show; None: the first that is not the loss.
        file: where to write; None: standard error.
        interval_s: seconds between the lines of a log.

    Example:
        >>> show = ProgressBar(file=sys.stdout)
        >>> show(TrainingStarted(1, 0, 2, 5, 320, 650))
        >>> show(EpochFinished(1, 5, {"loss": 0.5}, {"accuracy": 0.9}, True, 1.25))
        epoch 1/2  loss 0.5000  accuracy 0.9000  best
        >>> show.close()
    """

    def __init__(
        self,
        score: str | None = None,
        *,
        file: TextIO | None = None,
        interval_s: float = 30.0,
    ) -> None:
        self.score = score
        self.file = file
        self.interval_s = interval_s
        self._bar: Any = None
        self._last_score = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self._start(event)
        elif isinstance(event, StepFinished):
            self._step(event)
        elif isinstance(event, EpochFinished):
            self._finish_epoch(event)
        elif isinstance(event, TrainingFinished):
            self.close()

    def close(self) -> None:
        """Leave the bar as it stands, also when training was broken off."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _start(self, event: TrainingStarted) -> None:
        # Imported here: only whoever watches needs it, and it looks for notebooks.
        from tqdm.auto import tqdm

        self.close()
        in_notebook = any(c.__module__ == "tqdm.notebook" for c in tqdm.__mro__)
        # A notebook paints standard error red.
        self._file = self.file or (sys.stdout if in_notebook else sys.stderr)
        self._moves = in_notebook or self._file.isatty()
        self._num_epochs = event.num_epochs
        self._steps_per_epoch = max(1, event.steps_per_epoch)
        self._num_examples = event.num_examples
        self._loss, self._count = 0.0, 0
        self._began = self._last_line = time.perf_counter()
        self._seen = 0
        self._first = event.step * event.num_examples // self._steps_per_epoch
        self._total = event.num_epochs * event.num_examples
        if self._moves:
            self._bar = tqdm(
                total=max(self._total, self._first),
                initial=self._first,
                desc=f"epoch {event.epoch}/{event.num_epochs}",
                unit="",
                unit_scale=True,
                smoothing=0.05,
                bar_format=None if in_notebook else _BAR,
                file=None if in_notebook else self._file,
                dynamic_ncols=True,
            )

    def _step(self, event: StepFinished) -> None:
        self._loss += event.loss * event.num_examples
        self._count += event.num_examples
        self._seen += event.num_examples
        if self._moves:
            self._bar.update(event.num_examples)
            self._show(self._loss / self._count)
        elif time.perf_counter() - self._last_line >= self.interval_s:
            done = event.step - (event.epoch - 1) * self._steps_per_epoch
            self._write(
                f"epoch {event.epoch}/{self._num_epochs}",
                f"step {done:,}/{self._steps_per_epoch:,}",
                f"loss {self._loss / self._count:.4f}",
                *self._pace(),
            )

    def _finish_epoch(self, event: EpochFinished) -> None:
        loss = event.training.get("loss", math.nan)
        score = self._score_of(event.validation)
        self._last_score = f", {score}" if score else ""
        self._loss, self._count = 0.0, 0
        is_last = event.epoch >= self._num_epochs
        if self._moves:
            following = min(event.epoch + 1, self._num_epochs)
            self._bar.set_description_str(
                f"epoch {following}/{self._num_epochs}", refresh=False
            )
            self._show(loss)
        if self._moves and not is_last and time.perf_counter() - self._last_line < 1:
            return
        self._write(
            f"epoch {event.epoch:>{len(str(self._num_epochs))}}/{self._num_epochs}",
            f"loss {loss:.4f}",
            score,
            "best" if event.is_best else "    ",
            *self._pace(),
        )

    def _show(self, loss: float) -> None:
        shown = f"loss {loss:.4f}{self._last_score}"
        self._bar.set_postfix_str(shown, refresh=False)

    def _score_of(self, scores: Mapping[str, Any]) -> str:
        """The validation score to show, with its name."""
        names = [n for n, v in scores.items() if isinstance(v, float)]
        names = [n for n in names if n not in _NOT_SCORES] or names
        name = self.score if self.score in scores else next(iter(names), None)
        return f"{name.replace('_', ' ')} {scores[name]:.4f}" if name else ""

    def _pace(self) -> tuple[str, str]:
        """Speed and time left, measured over what was seen since the start."""
        elapsed_s = time.perf_counter() - self._began
        if not self._seen or elapsed_s <= 0:
            return "", ""
        speed = self._seen / elapsed_s
        to_do = max(0, self._total - self._first - self._seen)
        return f"{speed:,.0f} examples/s", f"{_clock(to_do / speed)} left"

    def _write(self, *parts: str) -> None:
        line = "  ".join(part for part in parts if part)
        if self._moves:
            self._bar.write(line, file=self._file)
        else:
            print(line, file=self._file, flush=True)
        self._last_line = time.perf_counter()


def _clock(time_s: float) -> str:
    minutes, seconds = divmod(round(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
