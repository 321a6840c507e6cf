"""What commands print: for people with rich, for programs as one JSON object or CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chainrule.errors import counted
from chainrule.files import write_atomically
from chainrule.tasks import TASKS
from chainrule.tasks.words import duration_text, score_name, score_text, share_text

if TYPE_CHECKING:
    from chainrule.data import Source
    from chainrule.tasks import Job, Prediction, Run
    from chainrule.tasks.restorer import RestoredFile

__all__ = [
    "after_training",
    "before_training",
    "datasets",
    "print_json",
    "print_predictions",
    "printable",
    "restored",
    "runs",
    "scores",
    "show_predictions",
    "write_predictions",
]

_BAR_WIDTH = 24
_MAX_LAYERS = 30  # a screen


def _console(*, err: bool = False) -> Console:
    """A console that leaves lines whole where nobody looks at a screen."""
    file = sys.stderr if err else sys.stdout
    return Console(
        file=file, width=None if file.isatty() else 240, highlight=False, markup=False
    )


def printable(value: object) -> str:
    """Text without what a terminal would obey: file names are other people's."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in str(value))


def _plain(value: object) -> Text:
    return Text(printable(value))


def _json(value: object) -> str:
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def print_json(value: object) -> None:
    """Print one JSON object for a program."""
    print(_json(value))


def _finite(value: Any) -> Any:
    """The value with null where JSON has no number."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --------------------------------------------------------------------- train and resume


def before_training(job: Job, as_json: bool, *, with_health: bool) -> dict[str, Any]:
    """Print the data's health, the model and the forecast; return them for JSON."""
    from chainrule import training

    console = _console(err=as_json)
    told: dict[str, Any] = {}
    if with_health:
        told["health"] = job.health.as_dict()
        _headed(console, "Data", job.health.lines())
    predictor = job.predictor
    summary = predictor.model.summary(
        predictor.architecture.input_shape, max_rows=_MAX_LAYERS
    )
    _headed(console, "Model", summary.splitlines())
    forecast = training.forecast(job.trainer)
    told["forecast"] = dataclasses.asdict(forecast)
    told["execution"] = job.trainer.update.execution  # known since the forecast
    lines = [f"{job.settings.epochs} epochs take {forecast}", told["execution"]]
    _headed(console, "Training", lines)
    return told


def _headed(console: Console, title: str, lines: Sequence[str]) -> None:
    console.print(Text(title, style="bold"))
    for line in lines:
        style = "yellow" if line.startswith("warning:") else ""
        console.print(Text("  ") + _plain(line), style=style, soft_wrap=True)
    console.print()


def after_training(run: Run, told: Mapping[str, Any], as_json: bool) -> None:
    """Print how a run ended."""
    if as_json:
        places = {"run": str(run.folder), "report": str(run.report)}
        print(_json({**places, **run.results, "reason": run.reason, **told}))
        return
    console = _console()
    if not run.results:  # interrupted: the test set is not for unfinished runs
        return
    console.print(Text("Test", style="bold"))
    console.print(_score_table(run.results))
    _print_methods(console, run.results)
    best, epochs = run.results.get("best_epoch"), run.results.get("epochs")
    if epochs is not None:
        parts = [
            f"{counted(epochs, 'epoch')} in {duration_text(run.results['time_s'])}"
        ]
        parts += [f"best epoch {best}"] if best else []
        parts += [run.reason] if run.reason != "epochs" else []
        console.print("  " + ", ".join(parts), soft_wrap=True)
    console.print()
    console.print(Text("  run     ") + _plain(run.folder), soft_wrap=True)
    if run.report.exists():
        console.print(Text("  report  ") + _plain(run.report), soft_wrap=True)


def _score_table(results: Mapping[str, Any]) -> Table:
    """The scores of a result, the decisive one first and bold."""
    task = TASKS.get(str(results.get("task")))
    decisive = task.monitor if task else ""
    known = {
        name: value
        for name, value in results.items()
        if isinstance(value, float) and name != "time_s"
    }
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column()
    table.add_column(justify="right")
    for name in sorted(known, key=lambda name: name != decisive):
        style = "bold green" if name == decisive else ""
        table.add_row(score_name(name), score_text(name, known[name]), style=style)
    if "num_examples" in results:
        table.add_row("examples", f"{results['num_examples']:,}")
    return table


def _print_methods(console: Console, results: Mapping[str, Any]) -> None:
    """The scores of what a restoring network is compared with, if it is one."""
    methods = {**results.get("baselines", {}), "as damaged": results.get("damaged")}
    methods = {name: found for name, found in methods.items() if found}
    if not methods:
        return
    names = [n for n in ("psnr_hole", "psnr", "ssim") if n in results]
    table = _table("method")
    for name in names:
        table.add_column(score_name(name), justify="right")
    for method, found in methods.items():
        if "skipped" in found:
            note = f"{method.replace('_', ' ')}: {found['skipped']}"
            table.add_row(_plain(note), *[""] * len(names))
            continue
        count = found.get("num_examples", results["num_examples"])
        some = f" ({count:,} pictures)" if count != results["num_examples"] else ""
        table.add_row(
            _plain(method.replace("_", " ") + some),
            *(score_text(n, found[n]) if n in found else "" for n in names),
        )
    console.print()
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def scores(results: Mapping[str, Any], as_json: bool) -> None:
    """Print what an evaluation found."""
    if as_json:
        print(_json(results))
    else:
        console = _console()
        console.print(_score_table(results))
        _print_methods(console, results)


# ----------------------------------------------------------------------------- predict


def show_predictions(predictions: Iterable[Prediction]) -> None:
    """Print each prediction as it is made, its likeliest classes below the file."""
    console = _console()
    for prediction in predictions:
        console.print(_plain(prediction.file), style="bold", soft_wrap=True)
        if prediction.label_map is not None:
            written = Text("  written to ") + _plain(prediction.label_map)
            console.print(written, soft_wrap=True)
        if prediction.values:
            rows = [(name, f"{v:.6g}", 0.0) for name, v in prediction.values.items()]
        else:
            pairs = prediction.classes or prediction.labels
            rows = [(name, share_text(share), share) for name, share in pairs]
        if not rows:
            console.print("  no label")
            continue
        table = Table.grid(padding=(0, 2), pad_edge=True)
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        for name, shown, share in rows:
            table.add_row(
                _plain(name), shown, Text("█" * round(share * _BAR_WIDTH), "blue")
            )
        console.print(table)


def print_predictions(predictions: Iterable[Prediction], as_json: bool) -> None:
    """Print predictions for a program."""
    if as_json:
        print(_json({"predictions": [p.as_dict() for p in predictions]}))
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerows(_csv_rows(predictions))


def write_predictions(
    path: Path, predictions: Iterable[Prediction], as_json: bool
) -> None:
    """Write predictions to a file, whole or not at all."""
    found = list(predictions)
    if as_json:
        content = _json({"predictions": [p.as_dict() for p in found]}) + "\n"
    else:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(_csv_rows(found))
        content = buffer.getvalue()
    # File names may hold bytes that are no text.
    write_atomically(path, content.encode(errors="replace"))
    _console(err=True).print(f"{len(found):,} predictions in {path}", soft_wrap=True)


def _csv_rows(predictions: Iterable[Prediction]) -> Iterator[list[object]]:
    """A row for each class or label of a file, or one with all numbers of it."""
    header: list[object] = []
    for prediction in predictions:
        pairs = prediction.classes or prediction.labels
        if not header:
            kind = "class" if prediction.classes else "label"
            header = ["file", *(prediction.values or ["rank", kind, "probability"])]
            yield header
        if prediction.values:
            yield [prediction.file, *prediction.values.values()]
        for rank, (name, share) in enumerate(pairs, start=1):
            yield [prediction.file, rank, name, share]
        if not pairs and not prediction.values:
            yield [prediction.file, "", "", ""]


# ----------------------------------------------------------------------------- restore


def restored(files: Iterable[RestoredFile], as_json: bool) -> None:
    """Print where each restored picture is, as it is made."""
    if as_json:
        print(_json({"restored": [dataclasses.asdict(found) for found in files]}))
        return
    console = _console()
    for found in files:
        console.print(_plain(found.restored), soft_wrap=True)
        for note in found.notes:
            console.print(_plain(f"  {note}"), style="yellow", soft_wrap=True)


# ------------------------------------------------------------------- runs and data sets


def runs(rows: Sequence[Mapping[str, Any]], folder: Path, as_json: bool) -> None:
    """Print a table of runs to compare."""
    if as_json:
        print(_json({"runs": rows}))
        return
    if not rows:
        _console().print(f"no runs in {folder}; chainrule train makes one")
        return
    console = _console()
    cells = [_run_cells(row) for row in rows]
    shown = list(cells[0])
    table = _runs_table(shown, cells)
    endless = console.options.update(max_width=1000)
    for name in _EXPENDABLE:  # a narrow screen shows fewer columns, but whole ones
        if console.measure(table, options=endless).maximum <= console.width:
            break
        shown.remove(name)
        table = _runs_table(shown, cells)
    console.print(table)
    for row in rows:
        if row["problem"]:
            line = f"{row['run']} cannot be read: {row['problem']}"
            _console().print(_plain(line), style="yellow", soft_wrap=True)


_EXPENDABLE = ("parameters", "data", "task", "best", "time", "epochs", "model")


def _runs_table(names: Sequence[str], cells: Sequence[Mapping[str, Text]]) -> Table:
    table = _table()
    for name in names:
        is_text = name in ("run", "task", "data", "model", "state")
        table.add_column(
            name,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=name != "run",
        )
    for row in cells:
        table.add_row(*(row[name] for name in names))
    return table


def _run_cells(row: Mapping[str, Any]) -> dict[str, Text]:
    score = TASKS[row["task"]].monitor if row["task"] in TASKS else ""
    validation, test = (
        score_text(score, row[part][score]) if score in row[part] else ""
        for part in ("validation", "test")
    )
    count = row["num_parameters"]
    if row["problem"]:
        state = Text("unreadable", "red")
    else:
        is_done = row["finished"]
        state = Text("finished", "green") if is_done else Text("stopped", "yellow")
    return {
        "run": _plain(row["run"]),
        "task": _plain(row["task"]),
        "data": _plain(Path(row["data"]).name),
        "model": _plain(row["model"]),
        "epochs": Text(str(row["epochs"])),
        "best": Text(str(row["best_epoch"] or "")),
        "validation": Text(validation),
        "test": Text(test),
        "parameters": Text("" if count is None else f"{count:,}"),
        "time": Text(duration_text(row["time_s"])),
        "state": state,
    }


def datasets(sources: Sequence[Source], as_json: bool) -> None:
    """Print the data sets and where they lie."""
    if as_json:
        print(_json({"datasets": [dataclasses.asdict(s) for s in sources]}))
        return
    table = _table("name", "what")
    table.add_column("examples", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("where", overflow="fold")
    for source in sources:
        table.add_row(
            _plain(source.name),
            _plain(source.title),
            f"{source.num_examples:,}" if source.num_examples else "",
            _size(source.size_bytes),
            _plain(source.place) if source.place else Text("to download", "yellow"),
        )
    _console().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _size(size_bytes: float) -> str:
    """A size in the unit that leaves few digits."""
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
