"""The number of threads follows the environment and the processors allowed."""

import os

import pytest

from chainrule.core.threads import num_threads
from chainrule.errors import OptionError


def test_the_environment_sets_the_number_of_threads(monkeypatch):
    monkeypatch.setenv("CHAINRULE_NUM_THREADS", " 3 ")
    assert num_threads() == 3


def test_without_it_all_processors_that_the_process_may_use_count(monkeypatch):
    monkeypatch.delenv("CHAINRULE_NUM_THREADS", raising=False)
    assert 1 <= num_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_anything_but_a_number_of_threads_is_refused(monkeypatch, text):
    monkeypatch.setenv("CHAINRULE_NUM_THREADS", text)
    with pytest.raises(OptionError) as error:
        num_threads()
    assert str(error.value) == (
        "environment variable CHAINRULE_NUM_THREADS: not a number of threads\n"
        f"  got:      {text!r}\n"
        "  expected: a whole number of at least 1"
    )
