"""The health of data: counts, gaps, near-duplicates."""

import json
import sys

import numpy as np
import pytest
from made_data import png, write_zip

from chainrule.data import Splits, arrays, health, load


@pytest.fixture
def images():
    """Smooth random pictures, all different."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (120, 5, 5, 3))
    return np.kron(coarse, np.ones((1, 4, 4, 1))).astype(np.uint8)


def splits(images, targets=None, **more):
    targets = np.arange(len(images)) % 3 if targets is None else np.asarray(targets)
    third = len(images) // 3
    parts = (slice(0, third), slice(third, 2 * third), slice(2 * third, None))
    names = more.setdefault("class_names", ("a", "b", "c"))
    made = [arrays(images[p], targets[p], name="set", class_names=names) for p in parts]
    return Splits(*made)


def test_different_pictures_are_no_duplicates(images):
    found = health(splits(images))
    assert found.duplicates == []
    assert found.warnings == []
    assert found.lines() == [
        "set: 40 train, 40 validation, 40 test; examples of 20×20×3",
        "  class       train  validation        test",
        "  a              14          13          13",
        "  b              13          14          13",
        "  c              13          13          14",
        "no near-duplicates among 120 examples",
    ]


def test_copies_are_found_though_brighter_and_noisy(images):
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 3, images[0].shape)
    images[41] = np.clip(images[0] * 0.8 + 20 + noise, 0, 255)
    images[90] = images[0]
    images[5] = images[4]
    targets = np.arange(120) % 3
    found = health(splits(images, targets))
    pairs = {d.parts: (d.num_pairs, d.num_conflicts) for d in found.duplicates}
    assert pairs == {
        ("train", "train"): (1, 1),
        ("train", "validation"): (1, 1),
        ("train", "test"): (1, 0),
        ("validation", "test"): (1, 1),
    }
    assert "3 near-duplicates stand in two parts: scores will flatter" in found.warnings
    assert "  train and test: 1 (such as train[0] = test[10])" in found.lines()
    assert (
        "  inside train: 1, 1 with different targets (such as train[4] = train[5])"
        in found.lines()
    )


def test_many_equal_pictures_take_no_longer(images):
    found = health(splits(np.repeat(images[:1], 120, axis=0)))
    assert sum(d.num_pairs for d in found.duplicates) < 120 * 18


def test_blank_pictures_are_counted_and_are_no_duplicates(images):
    images[7:10] = 40
    found = health(splits(images))
    assert found.num_blank == 3
    assert found.duplicates == []
    assert found.warnings == ["3 pictures are of one colour"]


def test_gaps_and_imbalance_are_warned_of(images):
    targets = np.zeros(120, int)
    targets[:3] = 1
    found = health(splits(images, targets))
    assert found.warnings == [
        "no example of c in train",
        "no example of b, c in validation",
        "no example of b, c in test",
        "classes are unequal, from 3 to 37 examples: class weights may help",
    ]
    alone = health(splits(images, np.zeros(120, int), class_names=("a",)))
    assert alone.warnings == [
        "train holds one class only: there is nothing to tell apart"
    ]


def test_equal_vectors_are_duplicates():
    vectors = np.random.default_rng(0).normal(size=(9, 2))
    vectors[8] = vectors[0]
    found = health(splits(vectors))
    assert [(d.parts, d.num_pairs) for d in found.duplicates] == [
        (("train", "test"), 1)
    ]


def test_numbers_have_ranges_in_place_of_counts():
    parts = [arrays(np.eye(4) * i, [1, 2, 3, 4.5], task="regress") for i in (1, 2, 3)]
    found = health(Splits(*parts))
    assert found.lines()[:2] == [
        "arrays: 4 train, 4 validation, 4 test; examples of 4",
        "  target 0: from 1 to 4.5",
    ]


def test_a_sample_is_looked_at_where_there_is_too_much(images, monkeypatch):
    # The package's attribute of this name is the function.
    module = sys.modules["chainrule.data.health"]
    monkeypatch.setattr(module, "_MAX_VALUES", 60 * 1200)
    found = health(splits(images))
    assert found.num_compared == 60
    assert (
        found.lines()[-1] == "no near-duplicates among a sample of 60 of 120 examples"
    )


def test_sizes_and_files_left_out_are_shown(images):
    members = {f"{'ab'[i % 2]}/{i}.png": png(images[i]) for i in range(40)}
    members["a/0.png"] = png(images[0, :10])
    members["a/2.png"] = b""
    found = health(load(write_zip("set.zip", members), size=(20, 20)))
    assert found.picture_sizes == {"20×20": 38, "20×10": 1}
    lines = found.lines()
    assert "pictures of 20×20 (38), 20×10 (1), resized to 20×20" in lines
    at = lines.index("1 file left out")
    assert lines[at + 1] == (
        "  set.zip: a/2.png: not a readable picture: an empty file"
    )


def test_findings_can_be_written_as_json(images):
    images[50] = images[3]
    found = health(splits(images)).as_dict()
    again = json.loads(json.dumps(found))
    assert again["num_examples"] == {"train": 40, "validation": 40, "test": 40}
    assert again["duplicates"][0]["parts"] == ["train", "validation"]


def test_an_empty_part_is_allowed(images):
    whole = splits(images)
    found = health(Splits(whole.train, whole.test.subset([]), whole.test))
    assert found.num_examples["validation"] == 0
    assert found.warnings == []
