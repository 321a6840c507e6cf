"""Everything that a run depends on, as plain data: the command line's options."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
import types
import typing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import CheckpointError, FileError, OptionError
from chainrule.files import write_atomically

__all__ = ["REPEATED", "Settings"]

REPEATED = ("corruption", "freeze", "lr_scale")
"""Options of several texts, which the command line takes one by one."""

FORMAT = 1
"""Of the settings file; larger for a later one that this version cannot read."""


@dataclass(frozen=True)
class Settings:
    """The options of one training run; equal settings give equal bits.

    None means "what the task, the data and the model call for"; ``tasks.resolve`` fills
    those in, so that the settings written beside a run repeat it exactly.

    Example:
        >>> Settings(hidden=(100, 50), epochs=3).to_toml().splitlines()[:2]
        ['format = 1', 'task = "classify"']
    """

    data: str | None = None
    """A folder, archive or file, or the name of a known data set; None: the digits."""
    task: str = "classify"
    labels: str | None = None
    """A CSV table of file, label(s) or numbers, for pictures that lie in ``data``."""
    size: tuple[int, ...] | None = None
    """Height and width to which pictures are resized; None: the data's own."""
    channels: int | None = None
    unreadable: str = "list"
    group_by: str | None = None
    validation: float = 0.1
    test: float = 0.2
    corruption: tuple[str, ...] = ()
    """What damages the pictures that are to be restored: NAME[:KIND][:VALUE], in the
    order in which it happens."""
    patch: int | None = None
    """The side of the squares of pictures that are trained on; 0: whole pictures."""

    model: str | None = None
    """None: ``cnn`` for pictures; ``mlp`` for others, and where ``hidden`` is given."""
    hidden: tuple[int, ...] | None = None
    """Units of each hidden layer of an ``mlp``; None: 256."""
    activation: str | None = None
    dropout: float | None = None
    width: int | None = None
    """Filters of a model from pictures to pictures, of U-Net at full size."""
    depth: int | None = None
    """Its layers; how often U-Net halves the size."""
    init: str | None = None
    """Weights of another run to start from."""
    freeze: tuple[str, ...] = ()
    """Paths in the model whose parameters stay as they are."""

    loss: str | None = None
    loss_on: str | None = None
    """What of a restored picture counts: "hole", where values are lost, or "all"."""
    class_weights: str = ""
    """How much pixels of each class count: numbers joined by commas, or balanced."""
    ignore_label: int = 255
    """A number in label maps that does not count, beside 255."""
    label_smoothing: float | None = None
    """Share of each label given to all classes; None: 0.1 for networks with softmax."""
    l2: float = 0.0
    l1: float = 0.0

    optimizer: str = "adam"
    lr: float | None = None
    lr_scale: tuple[str, ...] = ()
    """PATH=FACTOR: a learning rate of its own for a part of the model."""
    weight_decay: float = 0.0
    schedule: str = "cosine"
    clip_norm: float | None = None
    average: float | None = None
    """Decay of a moving average of the weights, which is then what is evaluated."""

    batch_size: int = 64
    accumulate: int = 1
    """Minibatches whose gradients are averaged for one update."""
    epochs: int | None = None
    patience: int | None = None
    """Epochs without a better validation score before training stops."""
    augment: str = ""
    mixup: float = 0.0
    tta: int = 0
    """Augmented copies over which an evaluation averages; 0: the picture alone."""

    seed: int = 0
    out: str | None = None
    checkpoint_every_s: float = 60.0
    blas_threads: int | None = None

    def __post_init__(self) -> None:
        for name, hint in _hints().items():
            # Lists become tuples and whole numbers floats, as the option has it.
            value = _check_value(name, getattr(self, name), hint)
            object.__setattr__(self, name, value)
        _check_ranges(self)

    def replace(self, **changes: Any) -> Settings:
        """These settings with some changed; raises OptionError for an unknown name."""
        return Settings.checked(dataclasses.asdict(self) | changes)

    @staticmethod
    def checked(values: dict[str, Any]) -> Settings:
        """Settings from untyped values, such as a TOML file's.

        Raises OptionError for an unknown name or a value of the wrong kind.
        """
        known = {f.name for f in dataclasses.fields(Settings)}
        for name in values:
            if name not in known:
                raise OptionError.unknown("option", name, known)
        return Settings(**values)

    @staticmethod
    def from_toml(path: str | os.PathLike[str]) -> Settings:
        """Settings from a file, such as a run's own.

        Raises:
            FileError: if it cannot be read.
            OptionError: for an unknown option or a value of the wrong kind.
            CheckpointError: if a newer chainrule wrote it.
        """
        values = read_toml(path)
        version = values.pop("format", FORMAT)
        if not isinstance(version, int) or version > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer chainrule",
                got=f"settings format {version}",
                expected=f"at most {FORMAT}",
                hint="upgrade: pip install --upgrade chainrule",
            )
        try:
            return Settings.checked(values)
        except OptionError as error:
            raise OptionError(
                f"{path}: {error.what}",
                got=error.got,
                expected=error.expected,
                hint=error.hint,
            ) from None

    def to_toml(self) -> str:
        """The settings as a TOML file's text; options that are None are left out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        ordered = ["task", "model", *(n for n in values if n not in ("task", "model"))]
        rows = [
            f"{name} = {_toml_value(values[name])}\n"
            for name in ordered
            if values[name] is not None
        ]
        return "".join([f"format = {FORMAT}\n", *rows])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the settings as TOML, whole or not at all."""
        write_atomically(path, self.to_toml())

    def command(self) -> str:
        """The command line that repeats the run."""
        import shlex

        words = ["chainrule", "train"]
        if self.data is not None:
            words.append(self.data)
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.name in ("data", "out") or value is None or value == f.default:
                continue
            option = "--" + f.name.replace("_", "-")
            if f.name in REPEATED:
                for part in value:
                    words += [option, part]
            elif isinstance(value, tuple):
                words += [option, ",".join(map(str, value))]
            else:
                words += [option, str(value)]
        return shlex.join(words)


@cache
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Settings)


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A TOML file's values; raises FileError or, if malformed, OptionError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(
            f"cannot read settings from {path}", got=error, expected="a TOML file"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(
            f"{path} is not valid TOML", got=error, expected="lines such as: lr = 0.001"
        ) from None


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    # A JSON string is a TOML basic string.
    return json.dumps(value, ensure_ascii=False)


def _check_value(name: str, value: Any, hint: Any) -> Any:
    """The value in the type that the option has."""
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    (wanted,) = (o for o in options if o is not type(None))
    if typing.get_origin(wanted) is tuple:
        inner = typing.get_args(wanted)[0]
        if isinstance(value, (list, tuple)):
            return tuple(_check_value(name, v, inner) for v in value)
    elif (
        wanted is float
        and isinstance(value, (int, float))
        and not isinstance(value, bool)
    ):
        return float(value)
    elif isinstance(value, wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    raise OptionError(
        f"option {name}: wrong kind of value",
        got=repr(value),
        expected=str(getattr(wanted, "__name__", wanted)),
    )


def _check_ranges(settings: Settings) -> None:
    """Raise OptionError for a number outside its range."""
    at_least = {
        "batch_size": 1, "accumulate": 1, "epochs": 0, "patience": 1, "l2": 0, "l1": 0,
        "lr": 0, "weight_decay": 0, "mixup": 0, "tta": 0, "clip_norm": 0, "seed": 0,
        "checkpoint_every_s": 0, "blas_threads": 1, "patch": 0, "width": 1, "depth": 1,
    }  # fmt: skip
    for name, low in at_least.items():
        value = getattr(settings, name)
        if value is not None and not (value >= low and value < float("inf")):
            raise OptionError(
                f"option {name}: out of range", got=value, expected=f"at least {low}"
            )
    for name in ("dropout", "label_smoothing", "validation", "test", "average"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value < 1:
            raise OptionError(
                f"option {name}: out of range", got=value, expected="0 ≤ value < 1"
            )
    if settings.clip_norm == 0:
        raise OptionError(
            "option clip_norm: out of range", got=0, expected="a number above 0"
        )
    if settings.tta and not settings.augment:
        raise OptionError(
            "option tta: there is nothing to change the copies by",
            got=f"tta {settings.tta} without augment",
            expected="augment too, such as shift:2,flip",
        )
    if settings.channels not in (None, 1, 3):
        raise OptionError(
            "option channels: out of range", got=settings.channels, expected="1 or 3"
        )
    hidden = settings.hidden or ()
    if any(n < 1 for n in hidden):
        raise OptionError(
            "option hidden: a layer without units",
            got=",".join(map(str, hidden)),
            expected="numbers of at least 1, such as 100,50",
        )
    if settings.size is not None and (
        len(settings.size) != 2 or min(settings.size) < 1
    ):
        raise OptionError(
            "option size: not a picture's size",
            got=settings.size,
            expected="height,width such as 32,32",
        )
