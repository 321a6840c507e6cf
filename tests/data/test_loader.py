"""Minibatches: their order, their thread, their errors."""

import threading

import numpy as np
import pytest

from chainrule.data import Dataset, Loader, arrays, parse
from chainrule.errors import DataError, OptionError


class Slow(Dataset):
    """Reads as from files: never at hand, and damaged at some index."""

    def __init__(self, count, damaged=None):
        super().__init__((2, 2, 1), np.arange(count) % 2, class_names=("a", "b"))
        self.damaged = damaged
        self.read_rows = []

    def read(self, indices):
        self.read_rows.extend(indices.tolist())
        if self.damaged in indices:
            raise DataError("broken.png: not a readable picture", got="x", expected="y")
        return np.full((len(indices), 2, 2, 1), 7, np.uint8)


def loader_threads():
    return [t for t in threading.enumerate() if t.name == "chainrule-loader"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_an_epoch_shows_every_example_once(ahead):
    loader = Loader(Slow(23), 5, ahead=ahead)
    batches = list(loader.epoch(0))
    assert len(batches) == len(loader) == 5
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(23))
    assert all(np.array_equal(b.targets, b.indices % 2) for b in batches)
    assert not loader_threads()


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch, batch_size=4):
        loader = Loader(Slow(20), batch_size, seed=seed)
        return np.concatenate([b.indices for b in loader.epoch(epoch)]).tolist()

    assert order(0, 3) == order(0, 3) == order(0, 3, batch_size=7)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_a_resumed_epoch_skips_without_reading():
    data = Slow(12)
    loader = Loader(data, 4, ahead=0)
    whole = [b.indices.tolist() for b in loader.epoch(1)]
    data.read_rows.clear()
    rest = [b.indices.tolist() for b in loader.epoch(1, start_step=2)]
    assert rest == whole[2:]
    assert data.read_rows == whole[2]


def test_the_last_short_batch_can_be_dropped():
    loader = Loader(Slow(10), 4, drop_last=True)
    assert len(loader) == len(list(loader.epoch(0))) == 2


def test_an_error_while_reading_reaches_the_one_who_asked():
    loader = Loader(Slow(10, damaged=7), 2, shuffle=False, ahead=2)
    epoch = loader.epoch(0)
    assert [next(epoch).indices.tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(DataError, match=r"broken\.png"):
        next(epoch)
    assert not loader_threads()


def test_leaving_an_epoch_early_stops_the_thread():
    epoch = Loader(Slow(1000), 2, ahead=2).epoch(0)
    next(epoch)
    assert loader_threads()
    epoch.close()
    assert not loader_threads()


def test_the_thread_stays_only_so_far_ahead():
    data = Slow(100)
    epoch = Loader(data, 1, shuffle=False, ahead=2).epoch(0)
    next(epoch)
    # One handed out, two waiting, and one in the thread's hands.
    assert len(data.read_rows) <= 4
    epoch.close()


def test_arrays_in_memory_need_no_thread():
    epoch = Loader(arrays(np.zeros((9, 2)), [0, 1, 0] * 3), 2).epoch(0)
    next(epoch)
    assert not loader_threads()


def test_augmentation_is_the_same_for_any_batch_size_and_thread():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    data = arrays(images, [0, 1] * 10)
    augment = parse("shift:2,flip,noise:8")

    def epoch(batch_size, ahead, number=1):
        loader = Loader(data, batch_size, augment=augment, ahead=ahead, seed=5)
        found = np.empty_like(images)
        for batch in loader.epoch(number):
            found[batch.indices] = batch.inputs
        return found

    first = epoch(3, 0)
    assert np.array_equal(first, epoch(20, 2))
    assert not np.array_equal(first, epoch(3, 0, number=2))


def test_bad_options_are_refused():
    with pytest.raises(OptionError) as caught:
        Loader(Slow(3), 0)
    assert str(caught.value) == (
        "loader: batch_size is too small\n  got:      0\n  expected: an integer from 1"
    )
    with pytest.raises(OptionError) as caught:
        Loader(arrays(np.zeros((2, 5)), [0, 1]), 1, augment=parse("flip"))
    assert str(caught.value) == (
        "loader: only pictures can be augmented\n"
        "  got:      examples of shape (5,)\n"
        "  expected: (h, w, c)\n"
        "  try:      leave augment out"
    )
