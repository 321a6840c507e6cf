"""The well-known data sets: where they are on this machine, or how they get here."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from chainrule.data.places import cache_folder, data_folder
from chainrule.errors import DownloadError

__all__ = ["KNOWN", "KnownDataset", "fetch", "locate"]


@dataclass(frozen=True)
class KnownDataset:
    """A published data set: its files with their md5, and mirrors to try in turn."""

    name: str
    title: str
    num_examples: int
    size_bytes: int
    files: dict[str, str]
    mirrors: tuple[str, ...]


KNOWN = {
    "mnist": KnownDataset(
        "mnist",
        "MNIST, handwritten digits, 28×28 grey, 10 classes",
        70_000,
        11_594_722,
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "cifar10": KnownDataset(
        "cifar10",
        "CIFAR-10, small photographs, 32×32 colour, 10 classes",
        60_000,
        170_052_171,
        {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
        (
            "https://www.cs.toronto.edu/~kriz/",
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
        ),
    ),
}


def locate(name: str) -> Path | None:
    """The folder in which a known data set lies on this machine, if it does.

    ``CHAINRULE_DATA_DIR`` comes first and may hold it in any form that ``load`` reads;
    the cache holds it once every file has been downloaded.
    """
    given = data_folder()
    if given is not None and (given / name).is_dir() and any((given / name).iterdir()):
        return given / name
    cached = cache_folder() / name
    is_whole = all((cached / file).exists() for file in KNOWN[name].files)
    return cached if is_whole else None


def fetch(name: str) -> Path:
    """The folder of a known data set, downloaded into the cache if need be.

    Raises: DownloadError where every mirror fails, or what they send is damaged.
    """
    found = locate(name)
    if found is not None:
        return found
    known = KNOWN[name]
    folder = cache_folder() / name
    for file, md5 in known.files.items():
        _fetch_file(known, file, md5, folder)
    return folder


def _fetch_file(known: KnownDataset, file: str, md5: str, folder: Path) -> None:
    import pooch  # brings requests; only a download needs them

    pooch.get_logger().setLevel("WARNING")
    failures = []
    for mirror in known.mirrors:
        try:
            # pooch downloads beside the file and renames when the checksum is right.
            pooch.retrieve(
                mirror + file,
                f"md5:{md5}",
                fname=file,
                path=folder,
                progressbar=sys.stderr.isatty(),
            )
        except (OSError, ValueError) as error:
            failures.append(f"{mirror}{file}: {_reason(error)}")
        else:
            return
    raise DownloadError(
        f"{known.name}: no mirror could give {file!r}",
        got="\n".join(failures),
        expected=f"a connection, or the file in {str(folder)!r}",
        hint=f"put {', '.join(known.files)} there, or into {known.name}/ in the folder "
        "that CHAINRULE_DATA_DIR names",
    )


def _reason(error: Exception) -> str:
    """A failure in a few words; the libraries' own run over several lines."""
    if isinstance(error, ValueError):
        return "the file arrived damaged (its md5 differs)"
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code}"
    return f"no connection ({type(error).__name__})"
