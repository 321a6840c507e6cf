"""The command draw: a run's network or a formula's graph, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chainrule.cli.arguments import AsJson
from chainrule.errors import OptionError

if TYPE_CHECKING:
    from chainrule.explanation.drawing import Drawing, Frames

__all__ = ["draw"]


def draw(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|EXPR",
            help="A run's folder, a model file, or a formula: '(x+y)*z'.",
            show_default=False,
        ),
    ],
    values: Annotated[
        Optional[list[str]],  # noqa: UP045 - older typers do not read the bar
        typer.Argument(
            metavar="NAME=VALUE...",
            help="Of a formula: numbers, and arrays as [[.1,.5],[-.3,.8]].",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write an .svg, or an .html page to search; else as text.",
        ),
    ] = None,
    graph: Annotated[
        bool, typer.Option("--graph", help="Of a run: operations instead of layers.")
    ] = False,
    depth: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="N", help="Of a run: levels of layers to open; else what fits."
        ),
    ] = None,
    frames: Annotated[
        bool,
        typer.Option("--frames", help="Of a formula: gate by gate, with buttons."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw a run's network, or the graph of a formula with values and gradients."""
    from chainrule.cli import display

    found: Drawing | Frames
    if Path(what).exists():
        _refuse("a run", {"--frames": frames, "NAME=VALUE": values})
        found, shown = _network(Path(what), graph, depth)
    else:
        _refuse("a formula (no such file)", {"--graph": graph, "--depth": depth})
        found, shown = _formula(what, values or [], frames)
    if out is not None:
        found.save(out)
    if as_json:
        file = None if out is None else str(out)
        display.print_json({"title": found.title, "text": shown, "file": file})
    elif out is not None:
        typer.echo(f"{found.title}: {out}")
    else:
        typer.echo(display.printable(shown))


def _refuse(what: str, options: dict[str, Any]) -> None:
    """Raise for options that belong to something else."""
    given = [name for name, value in options.items() if value]
    if given:
        raise OptionError(
            f"options that {what} does not have",
            got=", ".join(given),
            expected="those that chainrule draw --help names for it",
        )


def _network(run: Path, graph: bool, depth: str | None) -> tuple[Drawing, str]:
    """The drawing of a run's network, and what it says in words."""
    from chainrule import tasks
    from chainrule.cli.options import numbers
    from chainrule.explanation import drawing

    levels = None if depth is None else numbers("depth", depth, count=1)[0]
    trained = tasks.load(run)
    shape = trained.architecture.input_shape
    if graph:
        traced = drawing.traced_model(trained.model, shape)
        found = drawing.draw(traced, depth=levels)
    else:
        found = drawing.draw_network(trained.model, shape, depth=levels)
    return found, str(found)


def _formula(
    program: str, values: list[str], frames: bool
) -> tuple[Drawing | Frames, str]:
    """The drawing of a formula's graph, and the same as text."""
    from chainrule import explanation
    from chainrule.cli.options import named_values
    from chainrule.core.trace import Graph
    from chainrule.explanation import drawing

    try:
        names = explanation.run_program(program, named_values(values))
    except OptionError as error:
        if not values:  # more likely the name of a run than a formula without names
            error.hint = f"there is no file {program}; chainrule runs lists the runs"
        raise
    y = list(names.values())[-1]
    graph = Graph.of(y)
    if y.size == 1 and y.requires_grad:
        graph.backward()
    if frames:
        steps = drawing.draw_frames(graph)
        return steps, str(steps)
    return drawing.draw(graph), drawing.draw_text(graph)
