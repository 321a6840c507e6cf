"""The table of Caffe's layers is complete, and the names in it exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[2] / "docs" / "layers.md"
# fmt: off
CAFFE = [
    "absval", "accuracy", "argmax", "batch norm", "batch reindex", "bias", "BNLL",
    "concat", "contrastive loss", "conv", "crop", "deconv", "dropout", "ELU",
    "embed", "eltwise", "euclidean loss", "exp", "filter", "flatten", "hinge loss",
    "im2col", "infogain loss", "inner product", "log", "LRN",
    "multinomial logistic loss", "MVN", "pooling", "power", "PReLU", "reduction",
    "ReLU", "reshape",
    "scale", "sigmoid", "sigmoid cross-entropy", "silence", "slice", "softmax",
    "softmax loss", "split", "SPP", "tanh", "threshold", "tile",
]
# fmt: on


def rows() -> dict[str, str]:
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    cells = [line.split("|")[1:3] for line in lines if line.startswith("|")]
    return {name.strip(): ours.strip() for name, ours in cells[2:]}


def test_every_name_of_caffes_list_is_mapped() -> None:
    assert list(rows()) == CAFFE
    assert all(rows().values())


@pytest.mark.parametrize("name", CAFFE)
def test_what_it_is_mapped_to_exists(name: str) -> None:
    ours = rows()[name]
    for path in re.findall(r"`([\w.]+)`", ours):
        module, _, attribute = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), attribute))
    assert "`" in ours or ours in {"later", "none"}
