"""Runs: a folder for each training, written so that it can be repeated and resumed."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data, nn, optim
from chainrule.core.graph import Tensor, as_tensor
from chainrule.errors import CheckpointError, FileError
from chainrule.files import remove_leftovers, write_atomically
from chainrule.tasks.architecture import Architecture, input_statistics
from chainrule.tasks.predictor import MODEL_FILE, Predictor, load
from chainrule.tasks.settings import Settings, read_toml
from chainrule.tasks.task import Task, make_task
from chainrule.training import (
    Checkpoint,
    Listener,
    MetricsLog,
    Monitor,
    Recipe,
    Trainer,
    read_rows,
    read_tensors,
)

__all__ = ["Run", "evaluate_run", "list_runs", "resume", "train"]

SETTINGS_FILE = "settings.toml"
METRICS_FILE = "metrics.jsonl"
CHECKPOINT_FILE = "checkpoint.safetensors"
RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"
RUN_FORMAT = 1


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


@dataclass
class Job:
    """Settings made concrete: the data, the model and the trainer of one run."""

    settings: Settings
    splits: data.Splits
    task: Task
    predictor: Predictor
    trainer: Trainer


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
    folder = _new_folder(settings)
    _write_settings(folder, settings)
    return _go(folder, settings, splits, None, listeners, on_ready)


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
        _write_settings(path, settings)
    file = path / CHECKPOINT_FILE
    checkpoint = Checkpoint.load(file) if file.exists() else None
    return _go(path, settings, load_splits(settings), checkpoint, listeners, on_ready)


def _go(
    folder: Path,
    settings: Settings,
    splits: data.Splits,
    checkpoint: Checkpoint | None,
    listeners: Sequence[Listener],
    on_ready: Callable[[Job], None] | None,
) -> Run:
    position = checkpoint.progress["log_position"] if checkpoint else None
    with (
        blas_threads(settings),
        closing(MetricsLog(folder / METRICS_FILE, position)) as log,
    ):
        remove_leftovers(folder)
        job = prepare(
            settings,
            splits,
            listeners=listeners,
            log=log,
            checkpoint=folder / CHECKPOINT_FILE,
        )
        if checkpoint is not None:
            job.trainer.restore(checkpoint)
        if on_ready is not None:
            on_ready(job)
        try:
            reason = job.trainer.run()
        finally:
            # Also after a NaN or a full disk: the last good weights can be used.
            if job.trainer.best:
                job.predictor.model.load_state(job.trainer.best)
            job.predictor.save(folder / MODEL_FILE)
        return _finish(folder, job, reason)


def _finish(folder: Path, job: Job, reason: str) -> Run:
    """Score the test set, once, and write results and report."""
    from chainrule.tasks.reporting import (
        write_run_report,
    )  # draws: imported when needed

    progress = job.trainer.progress
    run = Run(folder, job.settings, reason=reason)
    run.history = read_rows(folder / METRICS_FILE, "epoch")
    outputs = job.predictor.dataset_outputs(
        job.splits.test, tta=job.settings.tta, augment=job.settings.augment
    )
    targets = job.splits.test.targets
    run.results = {
        "task": job.task.name,
        **job.task.evaluate(outputs, targets),
        "num_examples": len(targets),
        "best_epoch": progress.best_epoch,
        "epochs": progress.epoch - 1,
        "steps": progress.step,
        "num_parameters": job.predictor.model.num_parameters(),
        "time_s": progress.elapsed_s,
        "reason": reason,
        "environment": environment(),
    }
    write_atomically(folder / RESULTS_FILE, json.dumps(run.results, indent=2) + "\n")
    write_run_report(run, job, outputs)
    return run


# ------------------------------------------------------------------ making it concrete


def load_splits(settings: Settings) -> data.Splits:
    """The data that the settings name."""
    height, width = settings.size or (None, None)
    return data.load(
        settings.data,
        task=settings.task,
        size=None if height is None or width is None else (height, width),
        channels=settings.channels,
        unreadable=settings.unreadable,
        validation=settings.validation,
        test=settings.test,
        group_by=settings.group_by,
        labels=settings.labels,
        seed=settings.seed,
    )


_DEFAULT_LR = {
    "sgd": 0.1, "momentum": 0.02, "nesterov": 0.02, "adagrad": 0.02,
    "rmsprop": 0.001, "adam": 0.003, "adamw": 0.003,
}  # fmt: skip
_EXAMPLES_WORTH_SEEING = 600_000


def _default_lr(settings: Settings) -> float:
    # A linear model's every weight sees raw pixels: thousands of them move one score.
    scale = 0.1 if settings.model == "linear" else 1.0
    return scale * _DEFAULT_LR.get(settings.optimizer, 0.01)


def resolve(settings: Settings, splits: data.Splits) -> Settings:
    """The settings with everything filled in that was left to chainrule."""
    # Few examples are seen often, many are seen at least ten times.
    epochs = round(_EXAMPLES_WORTH_SEEING / max(1, len(splits.train)))
    loss = make_task(settings.task, ("",), settings.loss).loss_name
    # A network soon knows every training label; smoothing keeps it from being too sure.
    is_smoothed = loss == "softmax" and settings.model != "linear"
    return settings.replace(
        data=None if settings.data is None else _stable_path(settings.data),
        labels=None if settings.labels is None else _stable_path(settings.labels),
        init=None if settings.init is None else _stable_path(settings.init),
        loss=loss,
        label_smoothing=0.1 * is_smoothed
        if settings.label_smoothing is None
        else settings.label_smoothing,
        lr=_default_lr(settings) if settings.lr is None else settings.lr,
        epochs=min(100, max(10, epochs))
        if settings.epochs is None
        else settings.epochs,
        hidden=() if settings.model == "linear" else settings.hidden,
        blas_threads=settings.blas_threads or _default_blas_threads(settings, splits),
    )


def _stable_path(name: str) -> str:
    """A path that still holds when the run is resumed from another folder."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def prepare(
    settings: Settings,
    splits: data.Splits,
    *,
    listeners: Sequence[Listener] = (),
    log: MetricsLog | None = None,
    checkpoint: Path | None = None,
) -> Job:
    """Model, loss, optimizer and loop for concrete settings, weights initialised."""
    training = splits.train
    task = _task_for(settings, training)
    architecture = Architecture(
        model=settings.model,
        input_shape=tuple(training.example_shape),
        num_outputs=task.num_outputs,
        hidden=settings.hidden,
        activation=settings.activation,
        dropout=settings.dropout,
        rescales_outputs=task.name == "regress",
    )
    model = architecture.build().initialize(settings.seed)
    _set_statistics(model, training, task)
    if settings.init is not None:
        take_weights(model, settings.init)
    for path in settings.freeze:
        model.freeze(path)
    predictor = Predictor(model, architecture, task)
    optimizer = optim.optimizer(
        settings.optimizer,
        model.named_parameters(),
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        groups=_groups(settings),
    )
    loader = data.Loader(
        training,
        settings.batch_size,
        seed=settings.seed,
        augment=data.parse(settings.augment) if settings.augment else None,
    )
    epochs, lr = settings.epochs or 0, settings.lr or 0.0
    trainer = Trainer(
        model,
        task.loss,
        optimizer,
        loader,
        recipe=Recipe(
            epochs=epochs,
            accumulate=settings.accumulate,
            clip_norm=settings.clip_norm,
            mixup=settings.mixup,
            penalty=_penalty(settings, model),
            seed=settings.seed,
        ),
        schedule=optim.schedule(
            settings.schedule, lr=lr, epochs=epochs, higher_is_better=True
        ),
        validate=lambda: predictor.evaluate(splits.validation),
        score=task.batch_score,
        monitor=Monitor(
            task.monitor, higher_is_better=True, patience=settings.patience
        ),
        average=optim.MovingAverage(model.named_parameters(), settings.average)
        if settings.average
        else None,
        listeners=listeners,
        log=log,
        checkpoint=checkpoint,
        checkpoint_every_s=settings.checkpoint_every_s,
    )
    return Job(settings, splits, task, predictor, trainer)


def _task_for(settings: Settings, training: data.Dataset) -> Task:
    names = training.class_names
    scale: tuple[float, ...] = ()
    if settings.task == "regress":
        deviations = training.targets.std(axis=0)
        scale = tuple(float(d) if d > 0 else 1.0 for d in deviations)
    return make_task(
        settings.task,
        tuple(names or ()),
        settings.loss,
        settings.label_smoothing or 0.0,
        scale,
    )


def _set_statistics(model: nn.Module, training: data.Dataset, task: Task) -> None:
    """Fill the buffers that bring inputs to unit scale and outputs back to theirs."""
    state = model.state()
    state["standardize.mean"], state["standardize.std"] = input_statistics(training)
    if task.name == "regress":
        state["units.scale"] = np.asarray(task.scale, np.float32)  # type: ignore[attr-defined]
        state["units.offset"] = training.targets.mean(axis=0).astype(np.float32)
    model.load_state(state)


def _groups(settings: Settings) -> list[optim.Group]:
    groups = []
    for text in settings.lr_scale:
        path, _, factor = text.partition("=")
        groups.append(optim.Group(path, lr_scale=float(factor)))
    return groups


def _penalty(settings: Settings, model: nn.Module) -> Callable[[], Tensor] | None:
    if not settings.l2 and not settings.l1:
        return None
    return lambda: as_tensor(nn.penalty(model, l2=settings.l2, l1=settings.l1))


def take_weights(model: nn.Module, source: str) -> list[str]:
    """Start from another model's weights; the paths that were taken are returned.

    Those of equal path and shape are taken, so that a net for other classes keeps all
    but its last layer. Statistics of the inputs are taken too.

    Raises CheckpointError if nothing fits.
    """
    path = Path(source)
    file = path / MODEL_FILE if path.is_dir() else path
    theirs, _ = read_tensors(file, kind="model")
    mine = model.state()
    fitting = {
        name: array
        for name, array in theirs.items()
        if name in mine and mine[name].shape == array.shape
    }
    if not any(name in fitting for name, _ in model.named_parameters()):
        raise CheckpointError(
            f"no weights of {file} fit this model",
            got=", ".join(f"{n} {list(a.shape)}" for n, a in theirs.items()),
            expected=", ".join(f"{n} {list(a.shape)}" for n, a in mine.items()),
            hint="use the same --model and --hidden as that run",
        )
    model.load_state({**mine, **fitting})
    return sorted(fitting)


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
    text = f"# {settings.command()}\nformat = {RUN_FORMAT}\n" + settings.to_toml()
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
    values = read_toml(file)
    version = values.pop("format", None)
    if not isinstance(version, int) or version > RUN_FORMAT:
        raise CheckpointError(
            f"{folder} was written by a newer chainrule",
            got=f"run format {version}",
            expected=f"at most {RUN_FORMAT}",
            hint="upgrade: pip install --upgrade chainrule",
        )
    return Settings.checked(values)


def evaluate_run(
    folder: str | os.PathLike[str], *, split: str = "test"
) -> dict[str, Any]:
    """Score a run's model on its test, validation or train split, JSON-able."""
    path = Path(folder)
    settings = read_settings(path)
    predictor = load(path)
    splits = load_splits(settings)
    with blas_threads(settings):
        return predictor.evaluate(
            getattr(splits, split), tta=settings.tta, augment=settings.augment
        )


def list_runs(folder: str | os.PathLike[str] = "runs") -> list[dict[str, Any]]:
    """What can be told of every run inside a folder, oldest first."""
    root = Path(folder)
    files = sorted(root.glob(f"*/{SETTINGS_FILE}"), key=lambda f: f.stat().st_mtime)
    rows = []
    for file in files:
        run = file.parent
        settings = read_settings(run)
        epochs = read_rows(run / METRICS_FILE, "epoch")
        results = run / RESULTS_FILE
        scores = json.loads(results.read_text()) if results.is_file() else {}
        best = [e for e in epochs if e["is_best"]]
        rows.append(
            {
                "run": run.name,
                "task": settings.task,
                "data": settings.data or "digits",
                "model": "-".join([settings.model, *map(str, settings.hidden)]),
                "epochs": len(epochs),
                "best_epoch": best[-1]["epoch"] if best else None,
                "validation": best[-1]["validation"] if best else {},
                "test": {k: scores[k] for k in scores if k in _SCORES},
                "num_parameters": scores.get("num_parameters"),
                "time_s": epochs[-1]["time_s"] if epochs else 0.0,
                "finished": scores.get("reason") in ("epochs", "early stopping"),
            }
        )
    return rows


_SCORES = {
    "accuracy", "loss", "f1_micro", "average_precision", "mean_absolute_error", "r2"
}  # fmt: skip


# -------------------------------------------------------------------- the environment


def environment() -> dict[str, str]:
    """Versions and processor, for whoever repeats the run."""
    from importlib.metadata import version

    packages = ("chainrule", "numpy", "scipy", "pillow", "scikit-learn")
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "finished_at": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


_WORTH_SHARING = 50_000_000  # multiplications and additions of one product


def _default_blas_threads(settings: Settings, splits: data.Splits) -> int:
    """One thread for small products, which end before a second one has woken up.

    So small nets also give the same bits on machines with other numbers of cores.
    """
    in_features = math.prod(splits.train.example_shape)
    units = max(settings.hidden, default=10)
    if 2 * settings.batch_size * in_features * units < _WORTH_SHARING:
        return 1
    # Its answer costs a scan of the loaded libraries, so it waits until a run starts.
    from threadpoolctl import threadpool_info

    counts = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
    return max(counts, default=1)


def blas_threads(settings: Settings) -> AbstractContextManager[Any]:
    """Keep to the recorded thread count: others differ in the sums' last bits."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(settings.blas_threads or None, user_api="blas")


__all__ += ["Job", "blas_threads", "prepare", "read_settings", "resolve", "take_weights"]
