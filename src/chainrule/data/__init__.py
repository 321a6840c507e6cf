"""Data sets, their parts and their minibatches; augmentation; the health of data."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chainrule.data.dataset import ArrayDataset, Dataset, arrays
from chainrule.data.health import Health, health
from chainrule.data.loader import Batch, Loader
from chainrule.data.splits import Splits, split
from chainrule.data.transforms import Keys, Transform, parse

if TYPE_CHECKING:
    from chainrule.data.images import ImageDataset
    from chainrule.data.pictures import form_picture, list_pictures, read_picture
    from chainrule.data.sources import Source, available, load

__all__ = [
    "ArrayDataset",
    "Batch",
    "Dataset",
    "Health",
    "ImageDataset",
    "Keys",
    "Loader",
    "Source",
    "Splits",
    "Transform",
    "arrays",
    "available",
    "form_picture",
    "health",
    "list_pictures",
    "load",
    "parse",
    "read_picture",
    "split",
]

_LAZY = {
    "ImageDataset": "images",
    "Source": "sources",
    "available": "sources",
    "form_picture": "pictures",
    "list_pictures": "pictures",
    "load": "sources",
    "read_picture": "pictures",
}


def __getattr__(name: str) -> Any:
    # The readers import a dozen archive modules, which nets without files never need.
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
