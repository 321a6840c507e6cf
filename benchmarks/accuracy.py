"""Test accuracies of the lectures' models on MNIST and CIFAR-10, in one table.

    python benchmarks/accuracy.py                                  # every row: hours
    python benchmarks/accuracy.py mnist_cnn cifar_cnn --json accuracy.json
    python benchmarks/accuracy.py --epochs 1 --examples 2000       # a trial: minutes

Each training is a run as ``chainrule train`` makes them: a tenth of the training data
chooses the best weights, the published test set is read once, when training is over.
The runs are kept in a folder. What is finished there is not trained again, what was
stopped goes on, so the table can be made in several sittings.

Exits 1 if a row misses what is asked of it, or if on one data set a row is not better
than the row before it in the table, where the order is part of what is asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import machine
import numpy as np

from chainrule import data, tasks, training


@dataclass(frozen=True)
class Row:
    """A model, what is asked of it, and its options apart from the defaults."""

    title: str
    data: str
    options: dict[str, Any]
    wanted: float = 0.0
    """The least accuracy, of the median of the seeds."""
    seeds: tuple[int, ...] = (0,)
    limit_s: float = np.inf
    """The longest that a training may take."""
    is_ordered: bool = False
    """Whether it has to be better than the row before it."""


ROWS = {
    "mnist_linear": Row("linear", "mnist", {"model": "linear"}),
    "mnist_mlp": Row(
        "MLP 784-512-10, dropout 0.2",
        "mnist",
        {"model": "mlp", "hidden": (512,), "dropout": 0.2},
        wanted=0.983,
    ),
    "mnist_lenet5": Row(
        "LeNet-5", "mnist", {"model": "lenet5", "epochs": 15}, wanted=0.989
    ),
    "mnist_cnn": Row(
        "small CNN",
        "mnist",
        {"model": "cnn", "epochs": 5},
        wanted=0.993,
        seeds=(0, 1, 2),
    ),
    "cifar_linear": Row("linear", "cifar10", {"model": "linear"}),
    "cifar_mlp": Row(
        "MLP 3072-512-10, dropout 0.2",
        "cifar10",
        {"model": "mlp", "hidden": (512,), "dropout": 0.2},
        is_ordered=True,
    ),
    "cifar_cnn": Row(
        "small CNN",
        "cifar10",
        {"model": "cnn", "epochs": 12},
        wanted=0.74,
        is_ordered=True,
    ),
    "cifar_resnet20": Row(
        "ResNet-20, flipped and cropped",
        "cifar10",
        {
            "model": "resnet20",
            "augment": "flip,crop:4",
            "optimizer": "momentum",
            "lr": 0.1,
            "weight_decay": 5e-4,
            "label_smoothing": 0.0,
            "schedule": "warmup:1+cosine",
            "batch_size": 128,
            "epochs": 30,
        },
        wanted=0.86,
        limit_s=3600,
        is_ordered=True,
    ),
}


@dataclass
class Result:
    """The finished trainings of a row, one for each seed."""

    row: Row
    runs: list[dict[str, Any]] = field(default_factory=list)

    def accuracies(self, part: str) -> list[float]:
        return [run[part]["accuracy"] for run in self.runs]

    @property
    def accuracy(self) -> float:
        return float(median(self.accuracies("test")))

    @property
    def time_s(self) -> float:
        return float(median(run["time_s"] for run in self.runs))

    @property
    def misses(self) -> list[str]:
        """What is asked of the row and not so."""
        found = []
        if self.accuracy < self.row.wanted:
            found.append(f"{self.accuracy:.2%} is below {self.row.wanted:.2%}")
        if self.time_s > self.row.limit_s:
            found.append(f"{self.time_s:.0f} s is more than {self.row.limit_s:.0f} s")
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.row.title,
            "data": self.row.data,
            "options": self.row.options,
            "wanted": self.row.wanted,
            "accuracy": self.accuracy,
            "validation_accuracy": median(self.accuracies("validation")),
            "time_s": self.time_s,
            "misses": self.misses,
            "runs": self.runs,
            "machine": machine.description(),
        }


def train(row: Row, name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Make the run of a row and a seed, go on with it, or leave it as it is."""
    options = row.options | {"data": row.data, "seed": seed}
    if arguments.epochs is not None:
        options["epochs"] = arguments.epochs
    if arguments.examples is not None:
        options["data"] = str(
            few_examples(row.data, arguments.examples, arguments.runs)
        )
    folder = arguments.runs / f"{name}-{seed}"
    if not (folder / "settings.toml").exists():
        tasks.train(tasks.Settings(**options, out=str(folder)), listeners=listeners())
        return
    made = tasks.read_settings(folder)
    for option, value in options.items():
        there = getattr(made, option)
        if there != value:
            sys.exit(
                f"{folder} was made with {option} {there}, not {value}: "
                "remove it, or give another --runs"
            )
    if not (folder / "results.json").exists():
        tasks.resume(folder, listeners=listeners())


def listeners() -> list[training.Listener]:
    return [training.ProgressBar()] if sys.stderr.isatty() else []


def few_examples(source: str, count: int, folder: Path) -> Path:
    """A file with some training and test pictures of a source, for trials."""
    path = (folder / f"{source}-{count}.npz").resolve()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        splits = data.load(source, validation=0.0)
        arrays: dict[str, Any] = {}
        for part, dataset in (("train", splits.train), ("test", splits.test)):
            # From all over: some sources come class by class.
            chosen = np.linspace(0, len(dataset) - 1, count).astype(int)
            arrays[f"x_{part}"] = dataset.read(chosen)
            arrays[f"y_{part}"] = dataset.targets[chosen]
        np.savez(path, **arrays)
    return path


def misses(results: dict[str, Result]) -> list[str]:
    """Everything that is asked and not so, in words."""
    found = [f"{name}: {miss}" for name, r in results.items() for miss in r.misses]
    for (name, before), (other, after) in pairwise(results.items()):
        is_comparable = after.row.is_ordered and after.row.data == before.row.data
        if is_comparable and after.accuracy <= before.accuracy:
            found.append(f"{other} is not better than {name}")
    return found


def table(results: dict[str, Result]) -> str:
    """The results as Markdown."""
    lines = [
        "| data | model | parameters | epochs | asked | test | validation | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for result in results.values():
        row, first = result.row, result.runs[0]
        test = f"{result.accuracy:.2%}"
        if len(result.runs) > 1:
            each = ", ".join(
                f"{accuracy:.2%}" for accuracy in result.accuracies("test")
            )
            test += f" (median of {each})"
        cells = [
            {"mnist": "MNIST", "cifar10": "CIFAR-10"}[row.data],
            row.title,
            f"{first['num_parameters']:,}",
            str(first["epochs"]),
            f"≥ {row.wanted:.1%}" if row.wanted else "",
            test,
            f"{median(result.accuracies('validation')):.2%}",
            f"{result.time_s:,.0f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--epochs", type=int, help="instead of each row's own")
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="SEED", help="instead of each row's own"
    )
    parser.add_argument(
        "--examples",
        type=int,
        metavar="N",
        help="train and test on so many, for trials",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/accuracy"), metavar="DIR",
        help="where runs are kept (runs/accuracy)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results there")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table there"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in ROWS:
            parser.error(f"no row {name!r}; there are {', '.join(ROWS)}")
    results: dict[str, Result] = {}
    for name, row in ROWS.items():
        if arguments.names and name not in arguments.names:
            continue
        seeds = arguments.seeds or row.seeds
        for seed in seeds:
            train(row, name, seed, arguments)
        runs = {run["run"]: run for run in tasks.list_runs(arguments.runs)}
        result = Result(row, [runs[f"{name}-{seed}"] for seed in seeds])
        results[name] = result
        print(f"{name:16}{result.accuracy:8.2%}{result.time_s:8.0f} s", flush=True)
        # After each row: what is stopped keeps what it has.
        if arguments.json:
            found = {name: result.as_json() for name, result in results.items()}
            arguments.json.write_text(json.dumps(found, indent=2) + "\n")
        if arguments.markdown:
            arguments.markdown.write_text(table(results))
    print(f"\n{table(results)}")
    missed = misses(results)
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
