"""Learning rates over time, by the numbers."""

import math

import pytest

from chainrule.errors import CheckpointError, OptionError
from chainrule.optim import SCHEDULES, Plateau, schedule


def rates(text, epochs, at, lr=1.0):
    made = schedule(text, lr=lr, epochs=epochs)
    return [made.lr_at(0, epoch) for epoch in at]


def test_constant_stays():
    assert rates("constant", 10, [0, 5, 10], lr=0.3) == [0.3, 0.3, 0.3]


def test_step_cuts_every_so_many_epochs():
    values = rates("step:10:0.1", 30, [0, 9.99, 10, 25])
    assert values == pytest.approx([1, 1, 0.1, 0.01], rel=1e-15)


def test_exponential_loses_the_same_share_in_every_epoch():
    assert rates("exponential:0.5", 4, [0, 1, 2, 2.5]) == [1, 0.5, 0.25, 0.5**2.5]


def test_cosine_goes_from_all_through_half_to_nothing_and_stays_there():
    values = rates("cosine", 8, [0, 2, 4, 8, 9])
    expected = [1, (1 + math.sqrt(0.5)) / 2, 0.5, 0, 0]
    assert values == pytest.approx(expected, abs=1e-15)
    assert rates("cosine:0.1", 8, [8])[0] == pytest.approx(0.1)


def test_one_cycle_starts_low_peaks_and_ends_lower():
    values = rates("one_cycle", 10, [0, 1.5, 3, 6.5, 10])
    assert values[0] == pytest.approx(1 / 25)
    assert values[1] == pytest.approx((1 + 1 / 25) / 2)
    assert values[2] == 1
    assert values[3] == pytest.approx(0.5, abs=1e-5)
    assert values[4] == pytest.approx(4e-6)


def test_warm_up_is_a_line_to_where_the_next_schedule_begins():
    values = rates("warmup:2:0.1+cosine", 10, [0, 1, 2, 6, 10])
    assert values == pytest.approx([0.1, 0.55, 1, 0.5, 0])
    assert rates("warmup:2", 10, [0, 5]) == [0.01, 1]


def test_no_update_of_any_schedule_but_the_last_is_lost_to_a_rate_of_zero():
    for name in SCHEDULES:
        assert all(r > 0 for r in rates(f"warmup:1+{name}", 5, [0, 0.5, 1, 4.9]))


def test_plateau_cuts_after_epochs_without_a_better_score_and_waits_again():
    made = Plateau(1.0, patience=2, factor=0.1)
    seen = []
    for score in [5, 4, 4, 4.5, 3, math.nan, 3.5, 3.5, 3.5]:
        made.observe(score)
        seen.append(round(made.lr_at(0, 0), 6))
    assert seen == [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]


def test_plateau_can_be_told_that_higher_is_better():
    made = schedule("plateau:1:0.5", lr=1.0, epochs=9, higher_is_better=True)
    for score in [0.1, 0.2, 0.3]:
        made.observe(score)
    assert made.lr_at(0, 3) == 1
    made.observe(0.3)
    assert made.lr_at(0, 4) == 0.5


def test_plateau_goes_on_from_its_state_also_inside_a_warm_up():
    first = schedule("warmup:1+plateau:2:0.5", lr=1.0, epochs=9)
    second = schedule("warmup:1+plateau:2:0.5", lr=1.0, epochs=9)
    for score in [1, 2]:
        first.observe(score)
    second.load_state(first.state())
    second.observe(2)
    assert second.lr_at(0, 5) == 0.5
    with pytest.raises(CheckpointError, match="of another schedule"):
        second.load_state({})
    with pytest.raises(CheckpointError, match="of another schedule"):
        schedule("cosine", lr=1, epochs=1).load_state(first.state())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cosin", "unknown schedule 'cosin'"),
        ("cosine+step", "unknown schedule before the \\+ 'cosine'"),
        ("step:a", "'step:a': its numbers do not fit"),
        ("step:", "'step:': its numbers do not fit"),
        ("constant:1", "its numbers do not fit"),
        ("step:0", "step: every is out of range"),
        ("step:5:-1", "factor is out of range"),
        ("plateau:0", "plateau: patience is out of range"),
        ("one_cycle:1", "one_cycle: rise is out of range"),
        ("warmup:11+cosine", "the warm-up is longer than the training"),
        ("warmup:1+warmup:2", "its numbers do not fit"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(text, message):
    with pytest.raises(OptionError, match=message):
        schedule(text, lr=0.1, epochs=10)
