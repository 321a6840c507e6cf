"""Splits: stratified, seeded, disjoint, and groups stay whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import arrays, split
from chainrule.data.splits import complete
from chainrule.errors import DataError, OptionError


def numbered(targets, **more):
    """A data set whose inputs are the examples' numbers."""
    return arrays(np.arange(float(len(targets)))[:, None], targets, **more)


def numbers(dataset):
    return dataset.read(np.arange(len(dataset)))[:, 0].astype(int).tolist()


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 3),
)
def test_every_example_is_on_one_side_and_classes_keep_their_shares(
    counts, fraction, seed
):
    targets = np.repeat(np.arange(len(counts)), counts)
    rest, part = split(numbered(targets), fraction, seed=seed, name="test")
    assert sorted(numbers(rest) + numbers(part)) == list(range(len(targets)))
    for number, count in enumerate(counts):
        taken = int((part.targets == number).sum())
        assert 1 <= taken <= count - 1
        assert abs(taken - fraction * count) <= 1


def test_the_seed_and_the_name_decide_the_split():
    data = numbered([0, 1] * 20)
    first = numbers(split(data, 0.2, seed=0, name="test")[1])
    assert numbers(split(data, 0.2, seed=0, name="test")[1]) == first
    assert numbers(split(data, 0.2, seed=1, name="test")[1]) != first
    assert numbers(split(data, 0.2, seed=0, name="validation")[1]) != first


def test_groups_stay_whole_and_shares_are_near():
    groups = np.repeat(np.arange(40), 5)
    data = numbered(groups % 2, groups=groups)
    rest, part = split(data, 0.25, seed=0, name="test")
    assert not set(rest.groups) & set(part.groups)
    assert len(part) == 50
    assert np.bincount(part.targets).tolist() == [25, 25]


def test_groups_larger_than_the_share_still_give_a_part():
    data = numbered([0, 1, 0, 1, 0], groups=["a", "a", "a", "b", "b"])
    rest, part = split(data, 0.1, seed=0, name="test")
    assert (len(rest), len(part)) == (3, 2)


def test_numbers_and_labels_are_split_too():
    data = numbered(np.linspace(0, 1, 10), task="regress")
    rest, part = split(data, 0.3, seed=0, name="test")
    assert (len(rest), len(part)) == (7, 3)


def test_a_share_of_zero_is_an_empty_part():
    rest, part = split(numbered([0, 1]), 0, seed=0, name="validation")
    assert (len(rest), len(part)) == (2, 0)


def test_the_data_sets_own_parts_are_kept():
    train, test = numbered([0, 1] * 10), numbered([0, 1])
    splits = complete({"train": train, "test": test}, validation=0.2, test=0.5, seed=0)
    assert splits.test is test
    assert (len(splits.train), len(splits.validation)) == (16, 4)


def test_too_few_examples_for_a_part_are_refused():
    with pytest.raises(DataError) as caught:
        split(numbered([0, 1]), 0.2, seed=0, name="validation")
    assert str(caught.value) == (
        "split: too few examples of 'arrays' for a validation part\n"
        "  got:      2 examples, of which 0.2 for validation\n"
        "  expected: at least one of the examples on each side\n"
        "  try:      give more data, or another share"
    )


def test_one_group_cannot_be_split():
    with pytest.raises(DataError) as caught:
        split(numbered([0, 1], groups=["a", "a"]), 0.5, seed=0, name="test")
    assert str(caught.value) == (
        "split: too few groups of 'arrays' for a test part\n"
        "  got:      1 group, of which 0.5 for test\n"
        "  expected: at least one of the groups on each side\n"
        "  try:      give more data, or another share"
    )


def test_a_share_of_everything_is_refused():
    with pytest.raises(OptionError) as caught:
        split(numbered([0, 1]), 1.0, seed=0, name="test")
    assert str(caught.value) == (
        "split: the test part is no share of the data\n"
        "  got:      1.0\n"
        "  expected: a number from 0 up to, not including, 1"
    )


def test_groups_on_both_sides_of_the_data_sets_own_split_are_refused():
    train = numbered([0, 1], groups=["ann", "bob"])
    test = numbered([0, 1], groups=["bob", "cid"])
    with pytest.raises(DataError) as caught:
        complete({"train": train, "test": test}, validation=0, test=0, seed=0)
    assert str(caught.value) == (
        "arrays: groups stand on both sides of the data's own split\n"
        "  got:      1 shared, for example 'bob'\n"
        "  expected: each group in one part only\n"
        "  try:      put all pictures in one folder per class, and the split is made"
    )
