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
    Architecture,
    input_statistics,
    model_options,
)
from chainrule.tasks.predictor import Predictor, model_file
from chainrule.tasks.settings import Settings
from chainrule.tasks.task import Task, make_task
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
    task: Task
    predictor: Predictor
    trainer: Trainer

    @cached_property
    def health(self) -> data.Health:
        """What is known of the data, near-duplicates included; worked out once."""
        return data.health(self.splits, seed=self.settings.seed)


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
_LEAST_SIDE = 8  # pixels; where pictures are smaller, a convolution has little to see


def _default_lr(settings: Settings) -> float:
    scale = _LR_SCALE.get(settings.model or "", 1.0)
    return scale * _DEFAULT_LR.get(settings.optimizer, 0.01)


def _default_model(settings: Settings, shape: tuple[int, ...]) -> str:
    is_picture = len(shape) == 3 and min(shape[:2]) >= _LEAST_SIDE
    return "cnn" if is_picture and settings.hidden is None else "mlp"


def _default_epochs(model: str, num_examples: int) -> int:
    """Few examples are seen often, many are seen some times.

    A convolutional network learns more from an example, which it sees at many places,
    and takes longer over it.
    """
    if model in ("linear", "mlp"):
        return min(100, max(10, round(600_000 / max(1, num_examples))))
    return min(30, max(5, round(300_000 / max(1, num_examples))))


def resolve(settings: Settings, splits: data.Splits) -> Settings:
    """The settings with everything filled in that was left to chainrule."""
    shape = tuple(splits.train.example_shape)
    model = settings.model or _default_model(settings, shape)
    settings = settings.replace(model=model, **_model_settings(model, settings))
    loss = make_task(settings.task, ("",), settings.loss).loss_name
    # A network soon knows every training label; smoothing keeps it from being too sure.
    is_smoothed = loss == "softmax" and model != "linear"
    return settings.replace(
        data=None if settings.data is None else _stable_path(settings.data),
        labels=None if settings.labels is None else _stable_path(settings.labels),
        init=None if settings.init is None else _stable_path(settings.init),
        loss=loss,
        label_smoothing=0.1 * is_smoothed
        if settings.label_smoothing is None
        else settings.label_smoothing,
        lr=_default_lr(settings) if settings.lr is None else settings.lr,
        epochs=_default_epochs(model, len(splits.train))
        if settings.epochs is None
        else settings.epochs,
        blas_threads=settings.blas_threads or _default_blas_threads(settings, splits),
    )


def _model_settings(model: str, settings: Settings) -> dict[str, Any]:
    """The model's own options, with its defaults where nothing was asked for.

    Raises OptionError for an option that the model does not have.
    """
    taken = model_options(model)
    filled: dict[str, Any] = {}
    for name in ("hidden", "activation", "dropout"):
        value = getattr(settings, name)
        if name in taken:
            default = _HIDDEN if name == "hidden" else taken[name]
            filled[name] = default if value is None else value
        elif value:
            having = [m for m in nn.MODELS if name in model_options(m)]
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
    training = splits.train
    task = _task_for(settings, training)
    architecture = Architecture(
        model=settings.model or "",
        input_shape=tuple(training.example_shape),
        num_outputs=task.num_outputs,
        hidden=settings.hidden or (),
        activation=settings.activation,
        dropout=settings.dropout,
        seed=settings.seed,
        rescales_outputs=task.name == "regress",
        takes_pixels=training.read(np.array([0])).dtype == np.uint8,
    )
    model = architecture.build().initialize(settings.seed)
    _set_statistics(model, training, task)
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


def _task_for(settings: Settings, training: data.Dataset) -> Task:
    names = training.class_names or training.target_names
    scale: tuple[float, ...] = ()
    if settings.task == "regress":
        deviations = np.atleast_1d(training.targets.std(axis=0))
        scale = tuple(float(d) if d > 0 else 1.0 for d in deviations)
        names = names or tuple(f"value {i + 1}" for i in range(len(scale)))
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


def _default_blas_threads(settings: Settings, splits: data.Splits) -> int:
    """One thread for small products, which end before a second one has woken up.

    So small nets also give the same bits on machines with other numbers of cores.
    """
    in_features = math.prod(splits.train.example_shape)
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
