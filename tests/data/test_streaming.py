"""Memory does not grow with the number of pictures."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from made_data import png, write_tar, write_zip

from chainrule.data import Loader, load

SIZE = 48
PICTURE_BYTES = SIZE * SIZE * 3


def archive(count, form):
    rng = np.random.default_rng(0)
    few = [png(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)) for _ in range(8)]
    members = {f"{'ab'[i % 2]}/{i:05}.png": few[i % 8] for i in range(count)}
    if form == "zip":
        return write_zip(f"set{count}.zip", members)
    return write_tar(f"set{count}.tar.gz", members, "w:gz")


def peak_of_an_epoch(path):
    """The most memory that one load and one epoch hold at any time."""
    tracemalloc.start()
    splits = load(path)
    for _ in Loader(splits.train, 16, ahead=2).epoch(0):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
@pytest.mark.parametrize("is_cached", [True, False])
def test_twelve_times_the_pictures_take_hardly_more_memory(
    form, is_cached, monkeypatch
):
    if not is_cached:
        monkeypatch.setattr("chainrule.data.images._MAX_CACHE_BYTES", 0)
    small, large = archive(50, form), archive(600, form)
    peak_of_an_epoch(archive(40, form))  # what is imported on first use
    first, second = peak_of_an_epoch(small), peak_of_an_epoch(large)
    growth = (second - first) / 550
    # Names, targets and places in the archive stay; of the pixels nothing does.
    assert growth < PICTURE_BYTES / 5


def test_importing_data_loads_no_reader():
    code = (
        "import sys, chainrule.data; "
        "print([m for m in ('PIL', 'sklearn', 'scipy', 'pooch', 'tarfile', 'zipfile',"
        " 'chainrule.data.sources') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
