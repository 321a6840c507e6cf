"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "ModelArgument", "Quiet", "RunArgument"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run's folder.", show_default=False)
]
ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A run's folder or a model file.", show_default=False
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result.")]
