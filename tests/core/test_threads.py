"""The number of threads follows the environment and the processors allowed."""

import os

import pytest

from chainrule.core import threads
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


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Eight processors, of which 0 and 4, 1 and 5 ... share a core; no quota."""
    monkeypatch.delenv("CHAINRULE_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_CPUS", tmp_path / "cpu")
    monkeypatch.setattr(threads, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(threads, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for k in range(8):
        siblings = tmp_path / "cpu" / f"cpu{k}" / "topology" / "thread_siblings_list"
        write(siblings, f"{k % 4},{k % 4 + 4}\n")
    return tmp_path


def test_two_processors_of_one_core_count_once(machine, monkeypatch):
    assert num_threads() == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5}, raising=False)
    assert num_threads() == 2


def test_where_the_cores_are_not_told_every_processor_is_one(machine, monkeypatch):
    monkeypatch.setattr(threads, "_CPUS", machine / "absent")
    assert num_threads() == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("290000 100000", 2),
        ("50000 100000", 1),
        ("1000000 100000", 4),
        ("nonsense", 4),
    ],
)
def test_a_quota_of_processor_time_bounds_the_threads(machine, quota, expected):
    write(machine / "own", "0::/pod/box\n")
    write(machine / "cgroup" / "pod" / "box" / "cpu.max", f"{quota}\n")
    assert num_threads() == expected


def test_the_quota_of_an_outer_group_bounds_the_inner_one(machine):
    write(machine / "own", "0::/pod/box\n")
    write(machine / "cgroup" / "pod" / "box" / "cpu.max", "300000 100000\n")
    write(machine / "cgroup" / "pod" / "cpu.max", "100000 100000\n")
    assert num_threads() == 1


@pytest.mark.parametrize(("quota_us", "expected"), [(-1, 4), (300000, 3)])
def test_groups_of_the_first_version_are_read_too(machine, quota_us, expected):
    write(machine / "own", "4:memory:/a\n3:cpu,cpuacct:/not/mounted/here\n0::/\n")
    write(machine / "cgroup" / "cpu" / "cpu.cfs_quota_us", f"{quota_us}\n")
    write(machine / "cgroup" / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert num_threads() == expected
