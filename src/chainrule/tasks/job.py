"""From settings to a job: data read, options filled in, model and trainer made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from chainrule import data, nn, optim
from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.threads import num_threads
from chainrule.errors import CheckpointError, OptionError
from chainrule.tasks.architecture import (
    IMAGE_OPTIONS,
    OPTIONS,
    Architecture,
    model_options,
)
from chainrule.tasks.named import TASKS, checked_loss, model_file, task_class
from chainrule.tasks.settings import Settings
from chainrule.tasks.task import Task
from chainrule.tasks.trained import TrainedModel
from chainrule.training import (
    Listener,
    Monitor,
    Recipe,
    Trainer,
    read_tensors,
)

__all__ = [
    "Job",
    "blas_threads",
    "load_splits",
    "prepare",
    "resolve",
    "take_weights",
]


@dataclass
class Job:
    """Settings made concrete: the data, the model and the trainer of one run."""

    settings: Settings
    splits: data.Splits
    """The data as they are; what the task makes of them is its own affair."""
    task: Task
    predictor: TrainedModel
    trainer: Trainer

    @cached_property
    def health(self) -> data.Health:
        """What is known of the data, near-duplicates included; worked out once."""
        found = data.health(self.splits, seed=self.settings.seed)
        # Pictures may also be left out of what is made of them: for lack of room.
        told = self.trainer.loader.dataset.problems
        found.problems.extend(p for p in told if p not in found.problems)
        return found


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
# A linear model's every weight sees raw pixels: thousands of them move one score. Deep
# networks without normalisation fall apart where others learn.
_LR_SCALE = {"linear": 0.1, "alexnet": 0.1, "vgg": 0.3, "unet": 0.3}
_HIDDEN = (256,)


def _default_lr(settings: Settings) -> float:
    is_shaky = not task_class(settings.task).normalizes
    scale = _LR_SCALE.get(settings.model or "", 1.0) if is_shaky else 1.0
    return scale * _DEFAULT_LR.get(settings.optimizer, 0.01)


def _default_epochs(settings: Settings, num_examples: int) -> int:
    """Few examples are seen often, many are seen some times.

    A convolutional network learns more from an example, which it sees at many places,
    and takes longer over it. Patches are others in every epoch.
    """
    if settings.patch:
        return min(300, max(5, round(40_000 / max(1, num_examples))))
    if settings.model in ("linear", "mlp"):
        return min(100, max(10, round(600_000 / max(1, num_examples))))
    return min(30, max(5, round(300_000 / max(1, num_examples))))


def resolve(settings: Settings, splits: data.Splits) -> Settings:
    """The settings with everything filled in that was left to chainrule.

    Raises OptionError for options that do not fit the task or the model.
    """
    task, training = task_class(settings.task), splits.train
    _check_options(settings, task)
    model = settings.model or task.default_model(settings, training)
    settings = settings.replace(
        model=model,
        loss=checked_loss(task, settings.loss),
        **_model_settings(model, settings, task),
    )
    settings = task.resolved(settings, training)
    examples = task.from_settings(settings, training).examples(settings, splits)
    return settings.replace(
        data=None if settings.data is None else _stable_path(settings.data),
        labels=None if settings.labels is None else _stable_path(settings.labels),
        init=None if settings.init is None else _stable_path(settings.init),
        lr=_default_lr(settings) if settings.lr is None else settings.lr,
        epochs=_default_epochs(settings, len(examples.train))
        if settings.epochs is None
        else settings.epochs,
        blas_threads=settings.blas_threads
        or _default_blas_threads(settings, examples.train),
    )


def _check_options(settings: Settings, task: type[Task]) -> None:
    """Raise OptionError for an option that means nothing to the task."""
    foreign = {name for other in TASKS.values() for name in other.own_options}
    foreign -= set(task.own_options)
    for name in sorted(foreign | set(task.foreign_options)):
        value = getattr(settings, name)
        if value != getattr(Settings, name):
            having = [
                t.name
                for t in TASKS.values()
                if name in t.own_options
                or (name not in foreign and name not in t.foreign_options)
            ]
            raise OptionError(
                f"option {name}: it means nothing to the task {task.name}",
                got=f"{name} {_shown(value)}, task {task.name}",
                expected=f"no {name}, or one of the tasks {', '.join(having)}",
            )


def _model_settings(model: str, settings: Settings, task: type[Task]) -> dict[str, Any]:
    """The model's own options, with its defaults where nothing was asked for.

    Raises OptionError for an option that the model does not have.
    """
    models = nn.IMAGE_MODELS if task.is_dense else nn.MODELS
    taken = model_options(model, is_dense=task.is_dense)
    defaults = {**taken, **task.model_defaults(model), "hidden": _HIDDEN}
    filled: dict[str, Any] = {}
    for name in IMAGE_OPTIONS if task.is_dense else OPTIONS:
        value = getattr(settings, name)
        if name in taken:
            filled[name] = defaults[name] if value is None else value
        elif value:
            having = [
                m for m in models if name in model_options(m, is_dense=task.is_dense)
            ]
            raise OptionError(
                f"option {name}: {model} has none",
                got=f"{name} {_shown(value)}, model {model}",
                expected=f"with {name}, one of the models {', '.join(having)}",
            )
    return filled


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _stable_path(name: str) -> str:
    """A path that still holds when the run is resumed from another folder."""
    return str(Path(name).resolve()) if Path(name).exists() else name


def prepare(
    settings: Settings,
    splits: data.Splits,
    *,
    listeners: Sequence[Listener] = (),
) -> Job:
    """Model, loss, optimizer and loop for concrete settings, weights initialised."""
    for part, dataset in splits.items():
        if not len(dataset):
            raise OptionError(
                f"no examples for {part}",
                got="0 examples",
                expected=f"a share above 0 for {part}, or a part that the data bring",
                hint=f"--{part} 0.1" if part != "train" else None,
            )
    task = task_class(settings.task).from_settings(settings, splits.train)
    examples = task.examples(settings, splits)
    training = examples.train
    architecture = Architecture(
        model=settings.model or "",
        input_shape=tuple(training.example_shape),
        num_outputs=task.num_outputs,
        hidden=settings.hidden or (),
        activation=settings.activation,
        dropout=settings.dropout,
        seed=settings.seed,
        takes_pixels=splits.train.read(np.array([0])).dtype == np.uint8,
        is_dense=task.is_dense,
        width=settings.width,
        depth=settings.depth,
        **task.architecture_options,
    )
    model = architecture.build().initialize(settings.seed)
    task.set_statistics(model, training)
    if settings.init is not None:
        take_weights(model, settings.init)
    for path in settings.freeze:
        model.freeze(path)
    if not model.num_parameters(trainable_only=True):
        raise OptionError(
            "option freeze: nothing is left to train",
            got=", ".join(settings.freeze),
            expected="at least one layer that learns",
        )
    predictor = task.predictor(model, architecture)
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
        # Whole pictures are changed before anything is cut out of them or damaged.
        augment=data.parse(settings.augment)
        if settings.augment and not task.is_dense
        else None,
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
        validate=lambda: predictor.validation_scores(examples.validation),
        score=task.batch_score,
        monitor=Monitor(
            task.monitor, higher_is_better=True, patience=settings.patience
        ),
        average=optim.MovingAverage(_averaged(model), settings.average)
        if settings.average
        else None,
        listeners=listeners,
        checkpoint_every_s=settings.checkpoint_every_s,
    )
    return Job(settings, splits, task, predictor, trainer)


def _averaged(model: nn.Module) -> list[tuple[str, Any]]:
    """What a moving average is taken of: weights, and the statistics that go with them.

    Averaged weights put out other numbers than those that were trained, so running
    means and variances of the latter would not be theirs.
    """
    floats = [(n, b) for n, b in model.named_buffers() if b.dtype.kind == "f"]
    return [*model.named_parameters(), *floats]


def _groups(settings: Settings) -> list[optim.Group]:
    groups = []
    for text in settings.lr_scale:
        path, _, factor = text.rpartition("=")
        try:
            groups.append(optim.Group(path, lr_scale=float(factor)))
        except ValueError:
            raise OptionError(
                "option lr_scale: not a path and a factor",
                got=text,
                expected="PATH=FACTOR, such as network.hidden1=0.1",
            ) from None
    return groups


def _penalty(settings: Settings, model: nn.Module) -> Callable[[], Tensor] | None:
    if not settings.l2 and not settings.l1:
        return None
    return lambda: as_tensor(nn.penalty(model, l2=settings.l2, l1=settings.l1))


def take_weights(model: nn.Module, source: str) -> list[str]:
    """Start from another model's weights; the paths that were taken are returned.

    Layers are taken whole, where every array has an equal path and shape, so that a
    net for other classes keeps all but its last one. Statistics of the inputs are
    taken too.

    Raises CheckpointError if nothing fits.
    """
    file = model_file(source)
    theirs, _ = read_tensors(file, kind="model")
    mine = model.state()
    misfits = {
        name.rpartition(".")[0]
        for name, array in mine.items()
        if name not in theirs or theirs[name].shape != array.shape
    }
    fitting = {
        name: array
        for name, array in theirs.items()
        if name in mine and name.rpartition(".")[0] not in misfits
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


_WORTH_SHARING = 50_000_000  # multiplications and additions of one product


def _default_blas_threads(settings: Settings, training: data.Dataset) -> int:
    """One thread for small products, which end before a second one has woken up.

    So small nets also give the same bits on machines with other numbers of cores.
    """
    in_features = math.prod(training.example_shape)
    units = max(settings.hidden or (), default=10)
    if 2 * settings.batch_size * in_features * units < _WORTH_SHARING:
        return 1
    # Its answer costs a scan of the loaded libraries, so it waits until a run starts.
    from threadpoolctl import threadpool_info

    counts = [i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"]
    return min(max(counts, default=1), num_threads())


def blas_threads(settings: Settings) -> AbstractContextManager[Any]:
    """Keep to the recorded thread count: others differ in the sums' last bits."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(settings.blas_threads or None, user_api="blas")
