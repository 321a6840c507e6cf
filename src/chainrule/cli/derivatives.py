"""The commands derivatives and gradcheck: is a derivative what it should be?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chainrule.cli.arguments import AsJson, RunArgument
from chainrule.errors import OptionError, counted

if TYPE_CHECKING:
    from chainrule.autodiff import DifferenceTable
    from chainrule.explanation.equations import Derivatives

__all__ = ["derivatives", "gradcheck"]

_MAX_ENTRIES = 20


def derivatives(
    program: Annotated[
        str,
        typer.Argument(
            metavar="EXPR",
            help="A formula, or several: 'f=w*x; (f-y)**2'.",
            show_default=False,
        ),
    ],
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...",
            help="Numbers, and arrays as [[.1,.5],[-.3,.8]].",
            show_default=False,
        ),
    ],
    wrt: Annotated[
        str, typer.Option(metavar="NAME", help="Move this alone; else every number.")
    ] = "",
    step: Annotated[
        str, typer.Option(metavar="H", help="By how much a number is moved.")
    ] = "1e-4",
    svg: Annotated[
        Optional[Path],  # noqa: UP045 - older typers do not read the bar
        typer.Option(metavar="FILE", help="Draw the error against the step."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Differentiate by hand, by formula and automatically, side by side.

    First the table of one number moved at a time, then forward and central
    differences, the formula that SymPy finds, and what the graph says.
    """
    from chainrule import autodiff, explanation
    from chainrule.cli import display
    from chainrule.cli.options import named_values
    from chainrule.explanation import equations

    h = _step(step)
    names = named_values(values)
    if wrt and wrt not in names:
        raise OptionError.unknown("name that has a value", wrt, names)
    y = list(explanation.run_program(program, names).values())[-1]
    f = equations.recorded_function(y)
    moved = {name: v for name, v in names.items() if wrt in ("", name)}
    found = equations.derivatives(f, at=moved, h=h)
    table = autodiff.difference_table(f, moved, h=h, max_entries=_MAX_ENTRIES)
    if svg is not None:
        found.save(svg)
    if as_json:
        display.print_json(_as_dict(table, found))
        return
    typer.echo(table)
    if len(found.labels) > len(table.entries):
        more = len(found.labels) - len(table.entries)
        typer.echo(f"… and {counted(more, 'more number')}")
    typer.echo(f"\n{found}")


def _step(text: str) -> float:
    try:
        step = float(text)
    except ValueError:
        step = math.nan
    if not 0 < step < math.inf:
        raise OptionError(
            "option step: not a step", got=repr(text), expected="a positive number"
        )
    return step


def _as_dict(table: DifferenceTable, found: Derivatives) -> dict[str, Any]:
    rows = zip(table.entries, table.values, table.losses, table.slopes, strict=True)
    return {
        "value": found.value,
        "step": table.h,
        "table": [
            {"entry": e, "value": v, "moved": m, "slope": s} for e, v, m, s in rows
        ],
        "ways": [
            {
                **way._asdict(),
                "gradient": None if way.gradient is None else way.gradient.tolist(),
            }
            for way in found.ways
        ],
        "labels": found.labels,
        "reference": found.reference,
        "formulas": dict(zip(found.labels, found.formulas, strict=False)),
        "errors_by_step": {
            "entry": found.entry,
            **{k: v.tolist() for k, v in found.curve._asdict().items()},
        },
    }


def gradcheck(
    run: RunArgument,
    examples: Annotated[
        str, typer.Option(metavar="N", help="Training examples in the batch.")
    ] = "4",
    as_json: AsJson = False,
) -> None:
    """Check a run's gradient by differences, layer by layer.

    On a few training examples, in training and in evaluation. The exit code is 1 where
    a gradient is wrong.
    """
    from chainrule import tasks
    from chainrule.cli import display
    from chainrule.cli.options import numbers

    (num_examples,) = numbers("examples", examples, count=1)
    found = tasks.check_run_gradients(run, num_examples=num_examples)
    if as_json:
        display.print_json(found.as_dict())
    else:
        typer.echo(display.printable(found))
    if not found.passed:
        raise typer.Exit(1)
