"""The commands, and what becomes of their errors."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from chainrule.cli.arguments import AsJson, ModelArgument, Quiet, RunArgument
from chainrule.cli.derivatives import derivatives, gradcheck
from chainrule.cli.draw import draw
from chainrule.cli.explain import explain, no_figure
from chainrule.cli.options import numbers, settings_options, settings_values
from chainrule.errors import (
    ChainruleError,
    DownloadError,
    FileError,
    NonFiniteError,
    OptionError,
    nearest,
)

if TYPE_CHECKING:
    from chainrule.tasks import Job, Run

__all__ = ["app", "main"]

# typer brings its own copy of click in some versions and needs click in others.
_UsageError: Any = typer.BadParameter.__mro__[1]


class _Commands(TyperGroup):
    """Commands of which an unknown one is told like any unknown name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if not args[0].startswith("-") and args[0] not in self.commands:
            raise OptionError.unknown("command", args[0], self.commands)
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback()
def start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", envvar="CHAINRULE_DEBUG", help="Show where an error came from."
        ),
    ] = False,
) -> None:
    """Train networks for images and look at what they learned."""
    ctx.obj["debug"] = debug
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"chainrule {version_of('chainrule')}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@app.command()
@settings_options
def train(
    data: Annotated[
        Optional[str],  # noqa: UP045 - older typers do not read the bar
        typer.Argument(
            metavar="DATA",
            help="Folder, archive, file or known name; else the built-in digits.",
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            "--settings",
            metavar="FILE",
            help="TOML file of options; those given here win over it.",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Train a model, evaluate it and write a report.

    `chainrule train` alone trains on 1,797 handwritten digits that come with it.
    """
    from chainrule import tasks

    wanted = tasks.Settings()
    if settings is not None:
        wanted = tasks.Settings.from_toml(settings)
    wanted = wanted.replace(**settings_values({"data": data, **options}))
    _train(lambda **how: tasks.train(wanted, **how), as_json, quiet, with_health=True)


@app.command()
def resume(
    run: RunArgument,
    epochs: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N", help="Train up to this many epochs instead."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Go on with a run that was stopped, or prolong a finished one."""
    from chainrule import tasks

    until = None if epochs is None else numbers("epochs", epochs, count=1)[0]
    _train(
        lambda **how: tasks.resume(run, epochs=until, **how),
        as_json,
        quiet,
        with_health=False,
    )


def _train(
    go: Callable[..., Run], as_json: bool, quiet: bool, *, with_health: bool
) -> None:
    """Train with a progress bar, between what is known before and after."""
    from chainrule.cli import display
    from chainrule.training.progress import ProgressBar

    told: dict[str, Any] = {}
    bar = ProgressBar()

    def before(job: Job) -> None:
        bar.score = job.task.monitor
        if not quiet:
            told.update(display.before_training(job, as_json, with_health=with_health))

    with contextlib.closing(bar):
        run = go(listeners=[] if quiet else [bar], on_ready=before)
    display.after_training(run, told, as_json)
    if run.reason == "interrupted":
        typer.echo(f"stopped; to go on: chainrule resume {run.folder}", err=True)
        raise typer.Exit(130)


@app.command()
def evaluate(
    run: RunArgument,
    split: Annotated[
        str, typer.Option(metavar="NAME", help="test, validation or train.")
    ] = "test",
    as_json: AsJson = False,
) -> None:
    """Score a run's model on its test set."""
    from chainrule import tasks
    from chainrule.cli import display

    display.scores(tasks.evaluate_run(run, split=split), as_json)


@app.command()
def predict(
    run: ModelArgument,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Pictures, or folders of them.", show_default=False
        ),
    ],
    crop: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="X,Y,W,H", help="Look at this part, in pixels."),
    ] = None,
    top: Annotated[
        str, typer.Option(metavar="K", help="How many classes to name.")
    ] = "5",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV lines.")] = False,
    as_json: AsJson = False,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="Write to a file: JSON if its name says so, else CSV."
        ),
    ] = None,
) -> None:
    """Say what pictures show; of a segmenting model, write a label map of each."""
    from chainrule import tasks
    from chainrule.cli import display

    if as_csv and as_json:
        raise OptionError(
            "both --csv and --json", got="two forms", expected="one of them"
        )
    x_y_w_h: Any = None if crop is None else numbers("crop", crop, count=4)
    (num_classes,) = numbers("top", top, count=1)
    if num_classes < 1:
        raise OptionError("option top: out of range", got=top, expected="at least 1")
    model = tasks.load(run)
    if not isinstance(model, (tasks.Predictor, tasks.Segmenter)):
        raise OptionError(
            f"{run} restores pictures",
            got=f"a model of the task {model.task.name}",
            expected="a model that says what pictures show",
            hint=f"chainrule restore {run} PICTURE",
        )
    found = model.predict_files(files, crop=x_y_w_h, top=num_classes)
    if out is not None:
        as_json = as_json or (out.suffix.lower() == ".json" and not as_csv)
        display.write_predictions(out, found, as_json)
    elif as_json or as_csv:
        display.print_predictions(found, as_json)
    else:
        display.show_predictions(found)


@app.command()
def restore(
    run: ModelArgument,
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURE...",
            help="Damaged pictures, or folders of them.",
            show_default=False,
        ),
    ],
    mask: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE", help="A picture as large, white where to restore."
        ),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="DIR", help="Write there, not beside the pictures."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Restore damaged pictures, each into a file beside it."""
    from chainrule import tasks
    from chainrule.cli import display

    model = tasks.load(run)
    if not isinstance(model, tasks.Restorer):
        raise OptionError(
            f"{run} does not restore pictures",
            got=f"a model of the task {model.task.name}",
            expected="a model trained with --task restore",
            hint=f"chainrule predict {run} FILE",
        )
    found = model.restore_files(pictures, mask=mask, folder=out)
    display.restored(found, as_json)


@app.command()
def runs(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where the runs' folders lie.")
    ] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """Compare the runs in a folder."""
    from chainrule import tasks
    from chainrule.cli import display

    if folder != Path("runs") and not folder.is_dir():
        raise FileError(
            f"no folder {folder}", got="nothing there", expected="a folder of runs"
        )
    display.runs(tasks.list_runs(folder), folder, as_json)


@app.command()
def datasets(as_json: AsJson = False) -> None:
    """List the data sets known by name, and where they lie."""
    from chainrule import data
    from chainrule.cli import display

    display.datasets(data.available(), as_json)


app.command()(explain)
app.command()(draw)
app.command()(derivatives)
app.command()(gradcheck)


# ------------------------------------------------------------------------------ errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is returned (see ``chainrule.cli``)."""
    state = {"debug": False}
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # A console of few letters must not end a run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with _quiet_broken_pipe(), _house_errors(words):
            command = typer.main.get_command(app)
            code = command.main(
                args=words,
                prog_name="chainrule",
                standalone_mode=False,
                obj=state,
            )
            return code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        print("stopped", file=sys.stderr)
        return 130
    except ChainruleError as error:
        if state["debug"]:
            raise
        _print_error(error)
        return 1 if isinstance(error, (NonFiniteError, DownloadError)) else 2
    except MemoryError as error:
        if state["debug"]:
            raise
        _print_error(
            ChainruleError(
                "not enough memory",
                got=str(error) or "no more from the system",
                expected="a model and minibatches that fit",
                hint="a smaller --batch-size, --hidden or --size",
            )
        )
        return 1


@contextlib.contextmanager
def _house_errors(arguments: Sequence[str]) -> Iterator[None]:
    """Turn typer's complaints about the command line into the house shape."""
    try:
        yield
    except _UsageError as error:
        context = error.ctx
        path = context.command_path if context else "chainrule"
        if hasattr(error, "possibilities"):  # an option that does not exist
            options = [o for p in context.command.params for o in p.opts]
            near = nearest(error.option_name, [o for o in options if o[:2] == "--"])
            raise OptionError(
                f"unknown option {error.option_name!r}",
                got=error.option_name,
                expected=f"an option that {path} --help lists",
                hint=f"did you mean {near!r}?" if near else None,
            ) from None
        if getattr(error, "option_name", "") == "--figure":
            raise no_figure() from None
        usage = (
            " ".join(context.get_usage().split()[1:]) if context else "a value after it"
        )
        raise OptionError(
            error.format_message().strip().rstrip("."),
            got=shlex.join(["chainrule", *arguments]),
            expected=usage,
            hint=f"{path} --help",
        ) from None


@contextlib.contextmanager
def _quiet_broken_pipe() -> Iterator[None]:
    """End silently where the reader has gone, as ``chainrule runs | head`` may."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        raise SystemExit(1) from None
    except ChainruleError:
        raise
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _discard_output()
        raise FileError(
            "cannot write the output",
            got=error.strerror,
            expected="room on the disk that it goes to",
        ) from None


def _discard_output() -> None:
    """Python flushes once more at its end, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(error: ChainruleError) -> None:
    from chainrule.cli.display import printable

    name = type(error).__name__
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        name = f"\x1b[1;31m{name}\x1b[0m"
    print(f"{name}: {printable(error)}", file=sys.stderr)
