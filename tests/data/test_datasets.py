"""Arrays, subsets and targets."""

import numpy as np
import pytest

from chainrule.data import arrays
from chainrule.errors import DataError, IndexingError, OptionError


def test_uint8_pictures_stay_uint8_and_gain_a_channel_axis():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    found = arrays(images, [0, 1])
    assert found.example_shape == (3, 4, 1)
    batch = found.read(np.array([1]))
    assert batch.dtype == np.uint8
    assert np.array_equal(batch[0, :, :, 0], images[1])


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint16", "bool"])
def test_other_numbers_are_read_as_float32(dtype):
    found = arrays(np.ones((2, 5), dtype), [0, 1])
    assert found.read(np.array([0, 1])).dtype == np.float32


def test_a_subset_of_a_subset_shows_the_right_examples():
    whole = arrays(
        np.arange(6.0)[:, None],
        [0, 1, 2, 0, 1, 2],
        sources=list("uvwxyz"),
        groups=np.arange(6) // 2,
    )
    part = whole.subset([5, 3, 1]).subset([2, 0])
    assert part.read(np.array([0, 1]))[:, 0].tolist() == [1.0, 5.0]
    assert part.targets.tolist() == [1, 2]
    assert list(part.sources) == ["v", "z"]
    assert part.groups.tolist() == [0, 2]
    assert part.class_names == ("0", "1", "2")


def test_a_subset_shares_the_pictures():
    images = np.zeros((4, 2, 2), np.uint8)
    part = arrays(images, [0, 1, 0, 1]).subset([3])
    images[3] = 7
    assert part.read(np.array([0])).max() == 7


def test_an_index_outside_is_refused():
    whole = arrays(np.zeros((3, 2)), [0, 1, 0])
    with pytest.raises(IndexingError) as caught:
        whole.subset([3])
    assert str(caught.value) == (
        "subset: an index outside the data set 'arrays'\n"
        "  got:      indices from 3 to 3\n"
        "  expected: 0 to 2"
    )


def test_a_memory_map_is_not_loaded(tmp_path):
    np.save(tmp_path / "x.npy", np.ones((5, 2, 2), np.uint8))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    found = arrays(mapped, [0, 1, 0, 1, 0])
    assert not found.is_in_memory
    assert found.read(np.array([2])).sum() == 4


@pytest.mark.parametrize(
    ("targets", "names", "numbers"),
    [
        ([2, 0, 1], ("0", "1", "2"), [2, 0, 1]),
        (["dog", "cat", "dog"], ("cat", "dog"), [1, 0, 1]),
        (["10", "9", "9"], ("9", "10"), [1, 0, 0]),
        ([[0, 1], [1, 0], [0, 1]], ("0", "1"), [1, 0, 1]),
        ([[2], [0], [1]], ("0", "1", "2"), [2, 0, 1]),
        ([1.0, 0.0, 1.0], ("0", "1"), [1, 0, 1]),
    ],
)
def test_classes_come_in_many_forms(targets, names, numbers):
    found = arrays(np.zeros((3, 2)), targets)
    assert found.class_names == names
    assert found.targets.tolist() == numbers
    assert found.targets.dtype == np.int64


def test_labels_and_numbers_are_float32_columns():
    labels = arrays(np.zeros((2, 2)), [[1, 0, 1], [0, 0, 1]], task="label")
    assert labels.targets.dtype == np.float32
    assert labels.class_names == ("0", "1", "2")
    numbers = arrays(np.zeros((2, 2)), [3.5, 4], task="regress")
    assert numbers.targets.tolist() == [[3.5], [4.0]]
    assert numbers.class_names is None


BAD = {
    "lengths": (
        {"inputs": np.zeros((3, 2)), "targets": [0, 1]},
        "arrays: inputs and targets have different lengths\n"
        "  got:      3 inputs, 2 targets\n"
        "  expected: one target for each input",
    ),
    "group lengths": (
        {"inputs": np.zeros((2, 2)), "targets": [0, 1], "groups": [1]},
        "arrays: groups and targets have different lengths\n"
        "  got:      1 group, 2 targets\n"
        "  expected: one of the groups for each target",
    ),
    "nan": (
        {"inputs": [[0.0, 1.0], [2.0, float("nan")]], "targets": [0, 1]},
        "arrays: NaN or infinity in the inputs\n"
        "  got:      nan in example 1 at (1,)\n"
        "  expected: finite numbers\n"
        "  try:      leave the example out, or put a number there",
    ),
    "negative label": (
        {"inputs": np.zeros((2, 2)), "targets": [1, -1]},
        "arrays: labels out of range\n"
        "  got:      label -1 at example 1\n"
        "  expected: integers from 0 to 999\n"
        "  try:      number them with np.unique(labels, return_inverse=True)",
    ),
    "label past the names": (
        {"inputs": np.zeros((2, 2)), "targets": [0, 2], "class_names": ["a", "b"]},
        "arrays: labels out of range\n"
        "  got:      label 2 at example 1\n"
        "  expected: integers from 0 to 1\n"
        "  try:      number them with np.unique(labels, return_inverse=True)",
    ),
    "unknown name": (
        {"inputs": np.zeros((2, 2)), "targets": ["a", "c"], "class_names": ["a", "b"]},
        "arrays: a target is none of the classes\n"
        "  got:      'c' at example 1\n"
        "  expected: one of a, b",
    ),
    "fractions": (
        {"inputs": np.zeros((2, 2)), "targets": [0.5, 1]},
        "arrays: class targets are not whole numbers\n"
        "  got:      an array of float64 with fractions or NaN\n"
        "  expected: integers from 0\n"
        '  try:      task="regress" learns numbers',
    ),
    "not one-hot": (
        {"inputs": np.zeros((2, 2)), "targets": [[1, 1], [0, 1]]},
        "arrays: rows of class targets are not one-hot\n"
        "  got:      int64 targets of shape (2, 2)\n"
        "  expected: exactly one 1 in each row, or one integer per example\n"
        '  try:      task="label" takes several labels per example, '
        'task="regress" numbers',
    ),
    "labels of 2": (
        {"inputs": np.zeros((1, 2)), "targets": [[0, 2]], "task": "label"},
        "arrays: label targets are not rows of 0 and 1\n"
        "  got:      int64 targets of shape (1, 2)\n"
        "  expected: (n, labels) of 0 and 1",
    ),
    "nan target": (
        {"inputs": np.zeros((1, 2)), "targets": [float("nan")], "task": "regress"},
        "arrays: NaN or infinity in the targets\n"
        "  got:      nan at example 0, column 0\n"
        "  expected: finite numbers that float32 can hold\n"
        "  try:      leave the example out, or put a number there",
    ),
    "words as numbers": (
        {"inputs": np.zeros((1, 2)), "targets": ["x"], "task": "regress"},
        "arrays: targets are not numbers\n"
        "  got:      <U1 targets of shape (1, 1)\n"
        "  expected: (n,) or (n, k) numbers",
    ),
    "words as inputs": (
        {"inputs": [["x"]], "targets": [0]},
        "arrays: inputs are not numbers\n"
        "  got:      an array of <U1\n"
        "  expected: uint8 pictures, or numbers",
    ),
    "one axis": (
        {"inputs": np.zeros(3), "targets": [0, 1, 0]},
        "arrays: inputs are neither pictures nor vectors\n"
        "  got:      shape (3,)\n"
        "  expected: (n, h, w), (n, h, w, c) or (n, features)\n"
        "  try:      one example alone needs a leading axis: x[None]",
    ),
    "channels first": (
        {"inputs": np.zeros((2, 3, 32, 32), np.uint8), "targets": [0, 1]},
        "arrays: channels come before rows\n"
        "  got:      shape (2, 3, 32, 32)\n"
        "  expected: (n, h, w, c)\n"
        "  try:      images.transpose(0, 2, 3, 1)",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_get_one_clear_error(name):
    given, message = BAD[name]
    given = dict(given)
    with pytest.raises(DataError) as caught:
        arrays(given.pop("inputs"), given.pop("targets"), **given)
    assert str(caught.value) == message


def test_nan_is_found_beyond_the_first_chunk():
    inputs = np.zeros((5000, 1000), np.float32)
    inputs[4999, 3] = np.inf
    with pytest.raises(DataError, match="NaN or infinity") as caught:
        arrays(inputs, np.zeros(5000, int))
    assert caught.value.got == "inf in example 4999 at (3,)"


def test_an_unknown_task_is_named():
    with pytest.raises(OptionError) as caught:
        arrays(np.zeros((1, 1)), [0], task="clasify")
    assert str(caught.value) == (
        "unknown task 'clasify'\n"
        "  got:      'clasify'\n"
        "  expected: one of classify, label, regress, restore, segment\n"
        "  try:      did you mean 'classify'?"
    )
