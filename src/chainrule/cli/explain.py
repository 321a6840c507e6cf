"""The command explain: of a formula, of a run, or a figure of the lectures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from chainrule.cli.arguments import AsJson
from chainrule.errors import OptionError

if TYPE_CHECKING:
    from chainrule.core.graph import Tensor
    from chainrule.explanation import Explanation
    from chainrule.explanation.gate_by_gate import Walk

__all__ = ["explain", "no_figure"]

_Text = Optional[str]  # noqa: UP045 - older typers do not read the bar
_File = Optional[Path]  # noqa: UP045


def explain(
    what: Annotated[
        _Text,
        typer.Argument(
            metavar="EXPR|RUN",
            help="A formula, or several: 'f=w*x; (f-y)**2'; or a run's folder.",
            show_default=False,
        ),
    ] = None,
    values: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(
            metavar="NAME=VALUE...",
            help="Numbers, and arrays as [[.1,.5],[-.3,.8]].",
            show_default=False,
        ),
    ] = None,
    wrt: Annotated[
        _Text,
        typer.Option(
            metavar="NAME",
            help="Write out the derivative by this; else every gate is shown.",
        ),
    ] = None,
    of: Annotated[
        _Text, typer.Option(metavar="NAME", help="This value; else the last formula's.")
    ] = None,
    entry: Annotated[
        _Text,
        typer.Option(metavar="I,J", help="Of an array; else the largest derivative."),
    ] = None,
    of_entry: Annotated[
        _Text, typer.Option(metavar="I,J", help="Of a value that is an array.")
    ] = None,
    max_paths: Annotated[
        _Text, typer.Option(metavar="N", help="Paths of single numbers to write out.")
    ] = None,
    max_terms: Annotated[
        _Text, typer.Option(metavar="N", help="Terms of a sum over entries.")
    ] = None,
    max_depth: Annotated[
        _Text, typer.Option(metavar="N", help="Sums, one further up than the other.")
    ] = None,
    digits: Annotated[str, typer.Option(metavar="N", help="Digits of numbers.")] = "6",
    layer: Annotated[
        _Text, typer.Option(metavar="PATH", help="Of a run: as its summary prints it.")
    ] = None,
    example: Annotated[
        _Text, typer.Option(metavar="N", help="Of a run's test set, from 0.")
    ] = None,
    figure: Annotated[
        _Text,
        typer.Option(metavar="NAME", help="A figure of the lectures; list for all."),
    ] = None,
    svg: Annotated[
        _File,
        typer.Option(
            "--svg", "--png", "--out", metavar="FILE", help="Draw the graph or figure."
        ),
    ] = None,
    html: Annotated[_File, typer.Option(metavar="FILE", help="Write a page.")] = None,
    latex: Annotated[bool, typer.Option("--latex", help="Print LaTeX.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say why a number is what it is: of a formula, of a run's network, in a figure.

    `chainrule explain "(x+y)*z" x=-2 y=5 z=-4` shows every gate, forward and backward.
    With --wrt x: every path to x, its factors, their product and the sum.
    """
    formula = {
        "wrt": wrt, "of": of, "entry": entry, "of-entry": of_entry,
        "max-paths": max_paths, "max-terms": max_terms, "max-depth": max_depth,
        "latex": latex or None,
    }  # fmt: skip
    run = {"layer": layer, "example": example}
    if figure is not None:
        _refuse("a figure", {**formula, **run, "EXPR": what, "html": html})
        _figure(figure, svg, as_json)
    elif what is None:
        raise OptionError(
            "nothing to explain",
            got="no formula, no run and no --figure",
            expected="one of them",
            hint='chainrule explain "(x+y)*z" x=-2 y=5 z=-4',
        )
    elif Path(what).exists():
        _refuse("a run", {**formula, "NAME=VALUE": values, "svg": svg})
        _run(Path(what), layer, example, html, as_json)
    else:
        _refuse("a formula (there is no such folder)", run)
        _formula(what, values or [], formula, digits, svg, html, as_json)


def _refuse(what: str, options: Mapping[str, Any]) -> None:
    """Raise for options that belong to something else."""
    given = [name for name, value in options.items() if value]
    if given:
        raise OptionError(
            f"options that {what} does not have",
            got=", ".join(n if n.isupper() else f"--{n}" for n in given),
            expected="those that chainrule explain --help names for it",
        )


def no_figure() -> OptionError:
    """What is said where --figure stands without a name."""
    from chainrule.explanation import figures

    return OptionError(
        "--figure needs a name",
        got="no name",
        expected=f"one of {', '.join(sorted(figures.FIGURES))}",
        hint="chainrule explain --figure list says what each shows",
    )


def _figure(name: str, out: Path | None, as_json: bool) -> None:
    from chainrule.cli import display
    from chainrule.explanation import figures

    if name == "list":
        found = figures.descriptions()
        if as_json:
            display.print_json({"figures": found})
            return
        width = max(map(len, found))
        typer.echo("\n".join(f"{n:<{width}}  {text}" for n, text in found.items()))
        return
    shown = figures.figure(name)
    if out is not None:
        shown.save(out)
    if as_json:
        display.print_json({"figure": name, "text": str(shown)})
    else:
        typer.echo(shown)


def _run(
    run: Path, layer: str | None, example: str | None, page: Path | None, as_json: bool
) -> None:
    from chainrule.cli import display
    from chainrule.cli.options import numbers
    from chainrule.tasks.explained import explain_run

    if run.is_file():
        raise OptionError(
            "a file has no examples to explain",
            got=str(run),
            expected="the folder of a run, whose settings name its data",
            hint=f"chainrule explain {run.parent}",
        )
    (index,) = numbers("example", example or "0", count=1)
    found = explain_run(run, layer=layer, example=index, out=page)
    if as_json:
        display.print_json({"text": str(found), "page": str(found.page)})
    else:
        typer.echo(display.printable(found))


def _formula(
    program: str,
    values: list[str],
    options: Mapping[str, Any],
    digits: str,
    svg: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    from chainrule import explanation
    from chainrule.cli import display
    from chainrule.cli.options import named_values, numbers

    names = explanation.run_program(program, named_values(values))
    for option in ("wrt", "of"):
        if options[option] is not None and options[option] not in names:
            raise OptionError.unknown("name in the program", options[option], names)
    y = names[options["of"]] if options["of"] else list(names.values())[-1]
    if y.op is None:
        raise OptionError(
            "the value is not computed from anything that is given",
            got=f"{y.name}: {program if len(program) < 60 else y.spec}",
            expected="a formula of names that have values: 'x*2' x=3",
        )
    (num_digits,) = numbers("digits", digits, count=1)
    found: Explanation | Walk
    if options["wrt"] is None:
        limits = {n: v for n, v in options.items() if n not in ("wrt", "of")}
        _refuse("a formula without --wrt", limits)
        found = explanation.walk(y, digits=num_digits)
    else:
        found = explanation.explain(
            y, names[options["wrt"]], digits=num_digits, **_limits(options)
        )
    if svg is not None:
        _draw(y, svg)
    if html is not None:
        found.save(html)
    if as_json:
        display.print_json(found.as_dict())
    else:
        if options["latex"] and isinstance(found, explanation.Explanation):
            typer.echo(found.latex(full=True))
        else:
            typer.echo(found)


def _limits(options: Mapping[str, Any]) -> dict[str, Any]:
    """What ``explain`` takes beside the two tensors."""
    from chainrule.cli.options import numbers

    found: dict[str, Any] = {}
    for name in ("entry", "of-entry", "max-paths", "max-terms", "max-depth"):
        text = options[name]
        if text is None:
            continue
        key = name.replace("-", "_")
        found[key] = numbers(name, text)
        if name.startswith("max"):
            (found[key],) = numbers(name, text, count=1)
    return found


def _draw(y: Tensor, path: Path) -> None:
    """The graph with its values and gradients, into a file."""
    from chainrule.core.trace import Graph
    from chainrule.explanation import drawing

    graph = Graph.of(y)
    if y.size == 1:
        graph.backward()
    drawing.draw(graph).save(path)
