"""The counter-based generator: known answers, independence, reproducibility."""

import numpy as np
import pytest

from chainrule.core.rng import generator, philox_4x32, random_bits, stream_key

ONES = 0xFFFFFFFF

# Of the generator's authors (Random123, kat_vectors): counter, key, answer.
KNOWN = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (ONES, ONES, ONES, ONES),
        (ONES, ONES),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers_of_its_authors(counter, key, answer):
    words = philox_4x32(np.array([counter, counter], np.uint32), key)
    assert words.dtype == np.uint32
    assert words.tolist() == [list(answer)] * 2


def test_the_words_follow_counter_by_counter():
    block, step = 2, 5 | 7 << 32
    row = np.array([[block, 0, 5, 7]], np.uint32)
    words = random_bits((1, 2), step, 12)
    assert words[8:].tolist() == philox_4x32(row, (1, 2))[0].tolist()


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1001])
def test_a_word_does_not_depend_on_how_many_are_drawn(size):
    long = random_bits((3, 4), 9, 1001)
    np.testing.assert_array_equal(random_bits((3, 4), 9, size), long[:size])


def test_words_differ_between_keys_and_steps():
    streams = [
        random_bits(stream_key(seed, name), step, 100)
        for seed in (0, 1)
        for name in ("a", "b")
        for step in (0, 1)
    ]
    assert len({s.tobytes() for s in streams}) == 8


def test_words_are_uniform():
    words = random_bits(stream_key(0, "uniform"), 0, 100_000)
    counts = np.bincount(words >> np.uint32(28), minlength=16)
    # Sixteen bins of 6250 each; the standard deviation is 77.
    assert np.abs(counts - 6250).max() < 5 * 77
    assert abs(np.corrcoef(words[:-1], words[1:])[0, 1]) < 5 / np.sqrt(words.size)


def test_the_key_of_a_stream_is_fixed_for_good():
    # Runs are resumed by later versions: this may never change.
    assert stream_key(0, "shuffle") == (0x70C8D518, 0x85429437)


def test_a_generator_is_a_function_of_seed_name_and_step():
    draws = [
        generator(seed, name, step).random(4).tolist()
        for seed, name, step in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    ]
    assert draws[0] == generator(0, "a", 0).random(4).tolist()
    assert len({tuple(d) for d in draws}) == 4


def test_a_long_draw_does_not_run_into_the_next_step():
    # A step has 2¹⁹² blocks of four words to itself.
    first, second = (
        generator(0, "a", step).integers(0, 2**63, 1000) for step in (0, 1)
    )
    assert not set(first.tolist()) & set(second.tolist())
