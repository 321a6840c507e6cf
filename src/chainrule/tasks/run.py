"""Runs: a folder for each training, written so that it can be repeated and resumed."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chainrule.errors import (
    ChainruleError,
    CheckpointError,
    FileError,
    OptionError,
    counted,
)
from chainrule.files import remove_leftovers, write_atomically
from chainrule.tasks.job import Job, blas_threads, load_splits, prepare, resolve
from chainrule.tasks.named import TASKS, load
from chainrule.tasks.settings import Settings
from chainrule.tasks.trained import MODEL_FILE
from chainrule.training import (
    Checkpoint,
    Listener,
    MetricsLog,
    read_rows,
)

__all__ = ["Run", "evaluate_run", "list_runs", "read_settings", "resume", "train"]

SETTINGS_FILE = "settings.toml"
METRICS_FILE = "metrics.jsonl"
CHECKPOINT_FILE = "checkpoint.safetensors"
RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


@dataclass
class Run:
    """A training run on the disk."""

    folder: Path
    settings: Settings
    results: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    reason: str = ""
    """Why it ended: "epochs", "early stopping" or "interrupted"."""

    @property
    def report(self) -> Path:
        return self.folder / REPORT_FILE


def train(
    settings: Settings,
    *,
    listeners: Sequence[Listener] = (),
    on_ready: Callable[[Job], None] | None = None,
) -> Run:
    """Train a model as the settings say, in a new run folder.

    Args:
        settings: the options; those left to chainrule are filled in and recorded.
        listeners: functions of training events.
        on_ready: called once with the job, before the first step: the data's health,
            the model's summary and the forecast can be had from it.

    Raises:
        ChainruleError: for data, options or files that cannot be used.
        NonFiniteError: if the loss or a gradient becomes NaN or infinite.
    """
    splits = load_splits(settings)
    settings = resolve(settings, splits)
    with blas_threads(settings):
        # First the job, then its folder: settings that do not work leave none behind.
        job = prepare(settings, splits, listeners=listeners)
        folder = _new_folder(settings)
        _write_settings(folder, settings)
        return _go(folder, job, None, on_ready)


def resume(
    folder: str | os.PathLike[str],
    *,
    listeners: Sequence[Listener] = (),
    epochs: int | None = None,
    on_ready: Callable[[Job], None] | None = None,
) -> Run:
    """Go on with a stopped run; the result is bit for bit what it would have been.

    Args:
        epochs: train up to this many instead, for instance to prolong a finished run.

    Raises:
        CheckpointError: if the folder is no run, or one of a newer chainrule.
    """
    path = Path(folder)
    settings = read_settings(path)
    if epochs is not None:
        settings = settings.replace(epochs=epochs)
    file = path / CHECKPOINT_FILE
    checkpoint = Checkpoint.load(file) if file.exists() else None
    if checkpoint is not None and epochs is not None:
        done = checkpoint.progress["epoch"] - 1
        if epochs < done:
            raise OptionError(
                f"{path} has trained for longer already",
                got=counted(epochs, "epoch"),
                expected=f"at least {done}",
            )
        checkpoint.progress["reason"] = ""  # asked to go on, even past an early stop

    def ready(job: Job) -> None:
        if epochs is not None:  # not before the folder is known to be ours
            _write_settings(path, settings)
        if on_ready is not None:
            on_ready(job)

    with blas_threads(settings):
        job = prepare(settings, load_splits(settings), listeners=listeners)
        return _go(path, job, checkpoint, ready)


def _go(
    folder: Path,
    job: Job,
    checkpoint: Checkpoint | None,
    on_ready: Callable[[Job], None] | None,
) -> Run:
    """Train in a folder, from a checkpoint or from the start."""
    trainer = job.trainer
    if checkpoint is not None:  # first: one that does not fit must not cost the log
        trainer.restore(checkpoint)
    position = trainer.progress.log_position if checkpoint else None
    with closing(MetricsLog(folder / METRICS_FILE, position)) as log:
        remove_leftovers(folder)
        trainer.log, trainer.checkpoint = log, folder / CHECKPOINT_FILE
        if on_ready is not None:
            on_ready(job)
        try:
            reason = trainer.run()
        except ChainruleError:
            # After a NaN the last good weights can be used; a full disk is full.
            with suppress(FileError):
                _save_best(job, folder)
            raise
        _save_best(job, folder)
    run = Run(folder, job.settings, reason=reason)
    run.history = read_rows(folder / METRICS_FILE, "epoch")
    if reason != "interrupted":  # the test set is read once, when training is over
        _finish(run, job)
    return run


def _save_best(job: Job, folder: Path) -> None:
    """Write the model file with the best weights so far."""
    if job.trainer.best:
        job.predictor.model.load_state(job.trainer.best)
    job.predictor.save(folder / MODEL_FILE)


def _finish(run: Run, job: Job) -> None:
    """Score the test set and write results and report."""
    # It draws, which takes a second to import and only a finished run needs.
    from chainrule.tasks.reporting import write_run_report

    progress, test = job.trainer.progress, job.splits.test
    found = job.predictor.examine(
        test, tta=job.settings.tta, augment=job.settings.augment
    )
    run.results = {
        **found.scores,
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch - 1,
        "steps": progress.step,
        "num_parameters": job.predictor.model.num_parameters(),
        "time_s": progress.elapsed_s,
        "reason": run.reason,
        "environment": environment(job.trainer.update.execution),
    }
    text = json.dumps(run.results, indent=2) + "\n"
    write_atomically(run.folder / RESULTS_FILE, text)
    write_run_report(run.report, job, run.history, run.results, found)


# ------------------------------------------------------------------------- the folder


def _new_folder(settings: Settings) -> Path:
    """A folder of its own, even when two runs start at once.

    Raises FileError if the folder asked for already holds something, or cannot be made.
    """
    if settings.out is not None:
        folder = Path(settings.out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileError(
                f"{folder} already holds something",
                got="a folder that is not empty" if folder.is_dir() else "a file",
                expected="a new or empty folder for the run",
                hint=f"chainrule resume {folder}, or another --out",
            )
        _make_folder(folder, exist_ok=True)
        return folder
    source = Path(settings.data or "digits").name.split(".")[0] or "data"
    number = 1
    while True:
        folder = Path("runs") / f"{source}-{settings.model}-{number}"
        try:
            _make_folder(folder, exist_ok=False)
            return folder
        except FileExistsError:
            number += 1


def _make_folder(folder: Path, *, exist_ok: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except FileExistsError:
        raise
    except OSError as error:
        raise FileError(
            f"cannot make the run folder {folder}",
            got=error.strerror,
            expected="a place where folders can be made",
            hint="--out DIR",
        ) from None


def _write_settings(folder: Path, settings: Settings) -> None:
    # A path may hold what would end a comment, or what TOML forbids in one.
    command = "".join(c if c.isprintable() else "?" for c in settings.command())
    text = f"# {command}\n{settings.to_toml()}"
    write_atomically(folder / SETTINGS_FILE, text)


def read_settings(folder: Path) -> Settings:
    """The settings of a run.

    Raises CheckpointError if the folder is no run, or one of a newer chainrule.
    """
    file = folder / SETTINGS_FILE
    if not file.is_file():
        raise CheckpointError(
            f"{folder} is not a run",
            got="no settings.toml inside" if folder.is_dir() else "no such folder",
            expected="a folder that chainrule train made",
            hint="chainrule runs lists them",
        )
    return Settings.from_toml(file)


def evaluate_run(
    folder: str | os.PathLike[str], *, split: str = "test"
) -> dict[str, Any]:
    """Score a run's model on its test, validation or train split, JSON-able.

    Raises OptionError for a split of another name.
    """
    if split not in SPLITS:
        raise OptionError.unknown("split", split, SPLITS)
    path = Path(folder)
    settings = read_settings(path)
    predictor = load(path)
    splits = load_splits(settings)
    with blas_threads(settings):
        return predictor.evaluate(
            getattr(splits, split), tta=settings.tta, augment=settings.augment
        )


def list_runs(folder: str | os.PathLike[str] = "runs") -> list[dict[str, Any]]:
    """What can be told of every run inside a folder, oldest first.

    ``problem`` says why nothing can be told of a run that is damaged or of a newer
    chainrule; it is None for the others.
    """
    root = Path(folder)
    files = sorted(root.glob(f"*/{SETTINGS_FILE}"), key=lambda f: f.stat().st_mtime)
    rows = []
    for file in files:
        try:
            rows.append(_row(file.parent))
        # People and crashes change files; the other runs can be told of all the same.
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problem = getattr(error, "what", None) or str(error) or repr(error)
            rows.append({"run": file.parent.name, **_UNKNOWN, "problem": problem})
    return rows


_UNKNOWN: dict[str, Any] = {
    "task": "", "data": "", "model": "", "epochs": 0, "best_epoch": None,
    "validation": {}, "test": {}, "num_parameters": None, "time_s": 0.0,
    "finished": False,
}  # fmt: skip


def _row(run: Path) -> dict[str, Any]:
    settings = read_settings(run)
    epochs = read_rows(run / METRICS_FILE, "epoch")
    results = run / RESULTS_FILE
    scores = json.loads(results.read_text()) if results.is_file() else {}
    best = [e for e in epochs if e["is_best"]]
    return {
        "run": run.name,
        "task": settings.task,
        "data": settings.data or "digits",
        "model": "-".join([settings.model or "", *map(str, settings.hidden or ())]),
        "epochs": len(epochs),
        "best_epoch": best[-1]["epoch"] if best else None,
        "validation": best[-1]["validation"] if best else {},
        "test": {k: scores[k] for k in scores if k in _SCORES},
        "num_parameters": scores.get("num_parameters"),
        "time_s": epochs[-1]["time_s"] if epochs else 0.0,
        "finished": scores.get("reason") in ("epochs", "early stopping"),
        "problem": None,
    }


SPLITS = ("test", "validation", "train")
_SCORES = {name for task in TASKS.values() for name in task.scores_shown}


# -------------------------------------------------------------------- the environment


def environment(execution: str) -> dict[str, str]:
    """Versions, processor and what computed on it, for whoever repeats the run."""
    from importlib.metadata import version

    packages = ("chainrule", "numpy", "scipy", "pillow", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "execution": execution,
        "finished_at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
