"""One file that holds everything a run needs to go on: written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.errors import CheckpointError, FileError
from chainrule.files import write_atomically

__all__ = ["Checkpoint", "read_tensors", "write_tensors"]

Array = np.ndarray[Any, Any]

FORMAT_VERSION = 1
_KEY = "chainrule"


@dataclass
class Checkpoint:
    """Arrays by section ("model", "optimizer", "best" ...) and the loop's numbers.

    ``progress`` holds what is not an array: epoch, step, sums of the current epoch.
    """

    sections: dict[str, dict[str, Array]] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file; raises FileError and leaves an earlier one unharmed."""
        tensors = {
            f"{section}/{name}": array
            for section, arrays in self.sections.items()
            for name, array in arrays.items()
        }
        metadata = {"kind": "checkpoint", "progress": json.dumps(self.progress)}
        write_tensors(path, tensors, metadata)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Checkpoint:
        """Read the file; raises CheckpointError if it is damaged or of another kind."""
        tensors, metadata = read_tensors(path, kind="checkpoint")
        sections: dict[str, dict[str, Array]] = {}
        for name, array in tensors.items():
            section, _, rest = name.partition("/")
            sections.setdefault(section, {})[rest] = array
        try:
            return Checkpoint(sections, json.loads(metadata["progress"]))
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path} lacks how far training came",
                got=error,
                expected="the progress that chainrule writes beside the weights",
                hint="it is damaged; use another copy",
            ) from None


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: dict[str, str]
) -> None:
    """A safetensors file with chainrule's format version among its metadata."""
    # Imported here: only programs that save or load need it.
    from safetensors.numpy import save

    stamped = {"format": "chainrule", "version": str(FORMAT_VERSION), **metadata}
    # Under one key: safetensors would write several in an order that changes.
    header = {_KEY: json.dumps(stamped, sort_keys=True)}
    # safetensors writes memory as it lies, so the arrays must lie in order.
    contiguous = {
        name: np.ascontiguousarray(a).reshape(a.shape) for name, a in tensors.items()
    }
    write_atomically(path, save(contiguous, header))


def read_tensors(
    path: str | os.PathLike[str], *, kind: str
) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata of a file that chainrule wrote.

    Raises:
        FileError: if there is no such file.
        CheckpointError: if it is damaged, not chainrule's, of another kind, or newer.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(path)
    if not file.is_file():
        raise FileError(
            f"no such file: {file}", got="nothing there", expected=f"a {kind} file"
        )
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = json.loads((opened.metadata() or {}).get(_KEY, "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot read {file}",
            got=error,
            expected="a whole safetensors file",
            hint="it is damaged; use another copy",
        ) from None
    check_version(file, metadata, kind)
    return tensors, metadata


def check_version(file: Path, metadata: Mapping[str, str], kind: str) -> None:
    """Raise CheckpointError unless the file is chainrule's, of this kind, not newer."""
    if metadata.get("format") != "chainrule" or metadata.get("kind") != kind:
        raise CheckpointError(
            f"{file} is not a chainrule {kind}",
            got=f"format {metadata.get('format')!r}, kind {metadata.get('kind')!r}",
            expected=f"format 'chainrule', kind {kind!r}",
        )
    if int(metadata.get("version", 0)) > FORMAT_VERSION:
        raise CheckpointError(
            f"{file} was written by a newer chainrule",
            got=f"format version {metadata['version']}",
            expected=f"at most {FORMAT_VERSION}",
            hint="upgrade: pip install --upgrade chainrule",
        )
