"""Small data sets of every form, made on the fly."""

import os
from pathlib import Path

import numpy as np
import pytest
from made_data import png

REAL_DATA_DIR = os.environ.get("CHAINRULE_DATA_DIR")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """No test reads the user's data or leaves anything in the user's cache."""
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINRULE_DATA_DIR", raising=False)
    # Messages name paths; inside this folder they are short and always the same.
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def pictures():
    """30 pictures of 12×10 with texture, so that none are near-duplicates."""
    return np.random.default_rng(0).integers(0, 256, (30, 12, 10, 3), dtype=np.uint8)


@pytest.fixture
def members(pictures):
    """The files of a data set of three classes, with its own train and test parts."""
    found = {}
    for number, picture in enumerate(pictures):
        part = "test" if number % 5 == 4 else "train"
        found[f"{part}/{'abc'[number % 3]}/{number:02}.png"] = png(picture)
    return found


@pytest.fixture
def real_data(monkeypatch):
    """The folder of real data sets, or a skip."""
    if not REAL_DATA_DIR:
        pytest.skip("CHAINRULE_DATA_DIR is not set: no real data here")
    monkeypatch.setenv("CHAINRULE_DATA_DIR", REAL_DATA_DIR)
    return Path(REAL_DATA_DIR)
