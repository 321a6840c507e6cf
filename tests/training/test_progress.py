"""The progress listener, on a terminal and in a log file."""

import io

import pytest

from chainrule.training import progress
from chainrule.training.events import (
    CheckpointSaved,
    EpochFinished,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
)
from chainrule.training.progress import ProgressBar


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still until it is moved."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def step(number, epoch=1, loss=0.5):
    return StepFinished(epoch, number, loss, 0.1, 1.0, 100, 0.01)


def epoch(number, accuracy=0.9, is_best=True):
    scores = {"task": "classify", "loss": 0.3, "f1": 0.2, "accuracy": accuracy}
    scores["num_examples"] = 50
    return EpochFinished(number, 4 * number, {"loss": 0.25}, scores, is_best, 2.0)


def test_a_log_has_a_line_for_each_epoch_with_speed_and_time_left(clock):
    file = io.StringIO()
    show = ProgressBar("accuracy", file=file)
    show(TrainingStarted(1, 0, 3, 4, 400, 99))
    for number in range(1, 5):
        clock[0] += 0.5
        show(step(number))
    show(CheckpointSaved(1, 4, "checkpoint"))
    show(epoch(1))
    show(epoch(2, is_best=False))
    show(TrainingFinished(3, 8, 1, "early stopping", 4.0))
    assert file.getvalue().splitlines() == [
        "epoch 1/3  loss 0.2500  accuracy 0.9000  best  200 examples/s  0:04 left",
        "epoch 2/3  loss 0.2500  accuracy 0.9000        200 examples/s  0:04 left",
    ]


def test_a_log_has_lines_at_intervals_within_a_long_epoch(clock):
    file = io.StringIO()
    show = ProgressBar(file=file, interval_s=30)
    show(TrainingStarted(1, 0, 1, 100, 10_000, 99))
    for number in range(1, 6):
        clock[0] += 20
        show(step(number, loss=float(number)))
    assert file.getvalue().splitlines() == [
        "epoch 1/1  step 2/100  loss 1.5000  5 examples/s  32:40 left",
        "epoch 1/1  step 4/100  loss 2.5000  5 examples/s  32:00 left",
    ]


def test_without_a_name_the_first_score_that_is_not_the_loss_is_shown(clock):
    file = io.StringIO()
    show = ProgressBar(file=file)
    show(TrainingStarted(1, 0, 1, 4, 400, 99))
    show(epoch(1))
    assert file.getvalue() == "epoch 1/1  loss 0.2500  f1 0.2000  best\n"


def test_a_run_without_validation_shows_its_loss_alone(clock):
    file = io.StringIO()
    show = ProgressBar(file=file)
    show(TrainingStarted(1, 0, 1, 4, 400, 99))
    show(EpochFinished(1, 4, {"loss": 0.25}, {}, True, 2.0))
    assert file.getvalue() == "epoch 1/1  loss 0.2500  best\n"


def test_a_resumed_run_is_not_credited_with_what_was_done_before(clock):
    file = io.StringIO()
    show = ProgressBar(file=file)
    show(TrainingStarted(2, 6, 3, 4, 400, 99))
    clock[0] += 1
    show(step(7, epoch=2))
    show(epoch(2))
    # 1,200 examples in all, 600 before, 100 now at 100 a second: 500 to do.
    assert file.getvalue().endswith("100 examples/s  0:05 left\n")


def test_a_terminal_gets_one_bar_over_the_whole_run():
    file = Terminal()
    show = ProgressBar("accuracy", file=file)
    show(TrainingStarted(1, 0, 2, 4, 400, 99))
    for number in range(1, 5):
        show(step(number))
    show(epoch(1))
    for number in range(5, 9):
        show(step(number, epoch=2))
    show(epoch(2, accuracy=0.95))
    show(TrainingFinished(2, 8, 2, "epochs", 4.0))
    written = file.getvalue()
    assert "epoch 1/2   0%" in written
    last = written.rstrip().rsplit("\r", 1)[1]
    assert last.startswith("epoch 2/2 100% ████████████ ")
    assert "/s, 00:00 left, loss 0.2500, accuracy 0.9500" in last
    # Short epochs do not scroll the screen; the last one stays.
    assert "epoch 1/2  loss" not in written
    assert "epoch 2/2  loss 0.2500  accuracy 0.9500  best" in written


def test_a_bar_is_closed_once_when_training_breaks_off():
    file = Terminal()
    show = ProgressBar(file=file)
    show(TrainingStarted(1, 0, 2, 4, 400, 99))
    show(step(1))
    show.close()
    show.close()
    assert file.getvalue().endswith("\n")


def test_one_listener_can_watch_two_runs(clock):
    file = io.StringIO()
    show = ProgressBar(file=file)
    for _ in range(2):
        show(TrainingStarted(1, 0, 1, 1, 100, 99))
        clock[0] += 1
        show(step(1))
        show(epoch(1))
        show(TrainingFinished(1, 1, 1, "epochs", 1.0))
    first, second = file.getvalue().splitlines()
    assert first == second
