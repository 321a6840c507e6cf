"""The options of ``chainrule train``: one for every field of Settings.

Types and defaults are Settings' own; here stand the words for people.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import typer

from chainrule.errors import OptionError
from chainrule.nn.activations import ACTIVATIONS
from chainrule.nn.zoo import IMAGE_MODELS, MODELS
from chainrule.optim.rules import RULES
from chainrule.tasks.named import TASKS
from chainrule.tasks.settings import REPEATED, Settings

__all__ = ["PANELS", "numbers", "settings_options", "settings_values"]

_LOSSES = dict.fromkeys(loss for task in TASKS.values() for loss in task.losses)

PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "Data": {
        "task": ("NAME", f"What to learn: {', '.join(TASKS)}."),
        "labels": ("FILE", "CSV table of file and label(s) or numbers, for DATA."),
        "size": ("H,W", "Resize pictures to this height and width."),
        "channels": ("N", "1 for grey, 3 for colour; else what the pictures have."),
        "unreadable": ("NAME", "Broken pictures: list them, skip them, or error."),
        "group_by": ("NAME", "Keep each group in one split: a column, or a pattern."),
        "validation": ("SHARE", "Of the training data, to choose the weights by."),
        "test": ("SHARE", "Of all data, where no test part comes with them."),
        "corruption": (
            "NAME",
            "To restore pictures: how they are damaged, such as mask:box:10 or "
            "noise:gaussian:25. Repeatable, in order.",
        ),
        "patch": (
            "N",
            "Side of the squares of pictures that are trained on; 0: whole pictures.",
        ),
    },
    "Model": {
        "model": (
            "NAME",
            f"{', '.join(MODELS)}; else cnn for pictures, mlp for the rest. "
            f"To restore: {', '.join(IMAGE_MODELS)}.",
        ),
        "hidden": ("N,N,…", "Units of each hidden layer of an mlp; else 256."),
        "activation": ("NAME", f"{', '.join(ACTIVATIONS)}; else the model's own."),
        "dropout": (
            "SHARE",
            "Of hidden units left out in each step; else the model's own.",
        ),
        "width": ("N", "Filters of a model from pictures to pictures."),
        "depth": ("N", "Its layers; how often a U-Net halves the size."),
        "init": ("RUN", "Start from the weights of another run or model file."),
        "freeze": ("PATH", "Keep this part of the model as it is. Repeatable."),
    },
    "Loss": {
        "loss": ("NAME", f"{', '.join(_LOSSES)}; else what suits the task."),
        "loss_on": ("PLACE", "Of restored pictures: the hole, or all."),
        "class_weights": (
            "W,W,…",
            "To segment: how much pixels of each class count, or balanced.",
        ),
        "ignore_label": ("N", "A number in label maps that does not count."),
        "label_smoothing": ("SHARE", "Of each label, given to all classes."),
        "l2": ("λ", "Add λ Σ W² to the loss."),
        "l1": ("λ", "Add λ Σ |W| to the loss."),
    },
    "Optimizer": {
        "optimizer": ("NAME", f"{', '.join(RULES)}."),
        "lr": ("RATE", "Learning rate; else what suits the optimizer."),
        "lr_scale": (
            "PATH=X",
            "Learn this part of the model X times as fast. Repeatable.",
        ),
        "weight_decay": ("RATE", "Shrink the weights in each step."),
        "schedule": (
            "TEXT",
            "constant, cosine, one_cycle, step:10:0.5, warmup:2+cosine.",
        ),
        "clip_norm": ("X", "Largest norm that the gradient may have."),
        "average": ("DECAY", "Evaluate a moving average of the weights."),
    },
    "Training": {
        "batch_size": ("N", "Examples in a minibatch."),
        "accumulate": ("N", "Minibatches whose gradients make one step."),
        "epochs": ("N", "Passes over the training data; else what suits their number."),
        "patience": ("N", "Stop after this many epochs without a better score."),
        "augment": ("TEXT", "Change pictures at random: shift:2,flip,rotate:10."),
        "mixup": ("α", "Mix pairs of examples, by shares from Beta(α, α)."),
        "tta": ("N", "Average evaluations over this many augmented copies."),
    },
    "Run": {
        "seed": ("N", "Of everything drawn at random."),
        "out": ("DIR", "Folder of the run; else runs/DATA-MODEL-NUMBER."),
        "checkpoint_every_s": ("SECONDS", "Save within epochs as often as this."),
        "blas_threads": ("N", "Threads of matrix products; part of what repeats bits."),
    },
}
"""Fields of Settings by panel of the help: metavar and help; not the argument DATA."""


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting in place of its ``**options``."""
    signature = inspect.signature(command, eval_str=True)
    *own, rest = signature.parameters.values()
    assert rest.kind is inspect.Parameter.VAR_KEYWORD
    defaults = {f.name: f.default for f in dataclasses.fields(Settings)}
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=_annotation(name, metavar, text, panel, defaults[name]),
        )
        for panel, options in PANELS.items()
        for name, (metavar, text) in options.items()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return command


def _annotation(name: str, metavar: str, text: str, panel: str, default: Any) -> Any:
    # Options arrive as text, so that a wrong value is told as any other error is.
    kind = list[str] | None if name in REPEATED else str | None
    shown = _text(default)
    option = typer.Option(
        "--" + name.replace("_", "-"),
        metavar=metavar,
        help=f"{text} Default: {shown}." if shown else text,
        rich_help_panel=panel,
        show_default=False,
    )
    return Annotated[kind, option]


def _text(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    # Zero is how an option is off, which goes without saying.
    return str(default) if default else ""


def settings_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, in the types of Settings.

    Raises OptionError for text that is no value of its option.
    """
    hints = typing.get_type_hints(Settings)
    return {
        name: tuple(given) if name in REPEATED else _value(name, given, hints[name])
        for name, given in options.items()
        if given is not None and given != []
    }


def _value(name: str, text: str, hint: Any) -> Any:
    """A text as the type that the hint names, None aside."""
    if hint in (str, str | None):
        return text
    if hint in (int, int | None):
        return numbers(name, text, count=1)[0]
    if hint in (float, float | None):
        try:
            return float(text)
        except ValueError:
            raise _wrong(name, text, "a number") from None
    return numbers(name, text)


def numbers(name: str, text: str, count: int | None = None) -> tuple[int, ...]:
    """Whole numbers between commas; raises OptionError for anything else.

    Example:
        >>> numbers("hidden", "100,50")
        (100, 50)
    """
    expected = {None: "whole numbers such as 100,50", 1: "a whole number"}.get(
        count, f"{count} whole numbers between commas"
    )
    try:
        found = tuple(int(part) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise _wrong(name, text, expected) from None
    if count is not None and len(found) != count:
        raise _wrong(name, text, expected)
    return found


def _wrong(name: str, text: str, expected: str) -> OptionError:
    return OptionError(
        f"option {name}: wrong kind of value", got=repr(text), expected=expected
    )


def named_values(words: Sequence[str]) -> dict[str, Any]:
    """The numbers and arrays of words such as w1=3 or W=[[.1,.5],[-.3,.8]].

    Raises OptionError for another form, and for a name that is given twice.

    Example:
        >>> named_values(["w1=3", "W=[[.1, .5], [-.3, 8e-1]]"])
        {'w1': 3.0, 'W': [[0.1, 0.5], [-0.3, 0.8]]}
    """
    found: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        # JSON wants a digit before the point; people do not.
        text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text)
        try:
            value = float(text) if "[" not in text else json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if value is None or not name.isidentifier():
            raise OptionError(
                "not a name and its value",
                got=word if len(word) <= 60 else f"{word[:57]}...",
                expected="NAME=VALUE: w1=3, or W=[[.1,.5],[-.3,.8]]",
            )
        if name in found:
            raise OptionError(
                f"{name} is given twice", got=word, expected="one value for each name"
            )
        found[name] = value
    return found
