"""Sizes that are known only when a captured function runs, and what they were asked."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

from chainrule.core.size import Batch, Number, Shape, Size, at, square_root

N = 12


@pytest.fixture
def n() -> Size:
    return Size(Batch(N))


def guards(n: Size) -> list[str]:
    return list(n.batch.guards)


@pytest.mark.parametrize(
    "f",
    [
        lambda n: n + 3,
        lambda n: 3 + n,
        lambda n: n - 5,
        lambda n: 5 - n,
        lambda n: -n,
        lambda n: n * 4,
        lambda n: 4 * n * 2,
        lambda n: np.int64(4) * n,
        lambda n: n * 6 // 3,
        lambda n: (6 * n + 9) // 3,
        lambda n: -(-784 * n) // 784,
        lambda n: n * 784 % 7,
        lambda n: sum([n, n, 2]),
        lambda n: math.prod([n, 3, 2]),
        lambda n: +n,
    ],
)  # fmt: skip
def test_sums_and_multiples_are_symbols(n, f):
    found = f(n)
    assert isinstance(found, (Size, int))
    assert at(found, N) == f(N)
    assert [at(found, m) for m in (1, 5, 100)] == [f(m) for m in (1, 5, 100)]
    assert not guards(n)


@pytest.mark.parametrize(
    "f",
    [
        lambda n: 1 / n,
        lambda n: n / 3,
        lambda n: -0.5 / (n * 10),
        lambda n: (n - 1) / n,
        lambda n: n * n,
        lambda n: n**2,
        lambda n: 2**-n,
        lambda n: (n + 1) * 0.1 - 0.3,
        lambda n: -(1 / n),
        lambda n: 1 / (1 / n + 1),
        lambda n: square_root(n / 7),
    ],
)
def test_other_arithmetic_is_done_again_with_the_same_bits(n, f):
    def plain(m: int) -> float:
        return f(m)

    found = f(n)
    assert isinstance(found, Number)
    for m in (1, 3, N, 64, 1000):
        assert found.at(m) == plain(m)
        assert type(found.at(m)) is type(plain(m))
    assert not guards(n)


def test_what_cancels_is_a_plain_number(n):
    assert type(n - n) is int
    assert type(6 * n // n) is int
    assert type(0 * n) is int
    assert guards(n) == ["n ≠ 0"]  # what was divided by


@pytest.mark.parametrize(
    "f",
    [
        lambda n: int(n),
        lambda n: float(n),
        lambda n: operator.index(n),
        lambda n: list(range(n)),
        lambda n: [0] * n,
        lambda n: np.zeros((n, 2)),
        lambda n: np.arange(n),
        lambda n: np.asarray(n),
        lambda n: math.sqrt(n),
        lambda n: n // 5,
        lambda n: n % 5,
        lambda n: 100 // n,
        lambda n: 100 % n,
        lambda n: divmod(n, 5),
        lambda n: round(n / 3) and n.__round__(),
        lambda n: np.float32(0.1) * n,
        lambda n: "abc"[n - 10],
    ],
)
def test_python_and_numpy_read_the_number_and_leave_a_guard(n, f):
    assert np.array_equal(f(n), f(N))
    assert guards(n)
    assert not any(
        all(guard.holds(m) for guard in n.batch.guards.values()) for m in (N + 1, 60)
    )


@pytest.mark.parametrize(
    ("f", "text"),
    [
        (lambda n: n == 10, "n ≠ 10"),
        (lambda n: n != 12, "n = 12"),
        (lambda n: 10 * n == 0, "n ≠ 0"),
        (lambda n: not n, "n ≠ 0"),
        (lambda n: -n < -3, "-1·n < -3"),
        (lambda n: n + 1 <= 20, "n ≤ 19"),
        (lambda n: 2 * n >= 25, "2·n < 25"),
        (lambda n: 2 * n == n + 12, "n = 12"),
        (lambda n: 1 / n > 0.5, "1 / n ≤ 0.5"),
        (lambda n: n * n < 1000, "n·n < 1000"),
    ],
)  # fmt: skip
def test_a_comparison_leaves_what_came_out(n, f, text):
    assert f(n) == f(N)
    assert guards(n) == [text]
    (guard,) = n.batch.guards.values()
    for m in range(1, 40):
        assert guard.holds(m) == (f(m) == f(N))
    assert not guard.holds(0) or f(0) == f(N)


@pytest.mark.parametrize(
    "f",
    [
        lambda n: n == n + 0,
        lambda n: n < n + 1,
        lambda n: n >= 0,
        lambda n: n < 0,
        lambda n: n == -1,
        lambda n: n + 3 > 2,
        lambda n: -n > 0,
        lambda n: -n - 1 < 0,
        lambda n: n == "x",
        lambda n: n is None,
        lambda n: (-1, 3).count(-1) + (n, 3).count(-1),
    ],
)
def test_what_is_the_same_for_every_size_needs_no_guard(n, f):
    assert f(n) == f(N)
    assert not guards(n)


def test_shapes_of_different_lengths_or_fixed_sizes_need_no_guard(n):
    assert Shape((n, 10)) != (12,)
    assert (10,) != Shape((n, 10))  # noqa: SIM300  the other way round
    assert Shape((n, 10)) != (12, 11)
    assert Shape((n, 10)) == (n, 10)
    assert not guards(n)
    assert Shape((n, 10)) == (12, 10)
    assert guards(n) == ["n = 12"]


def test_after_the_capture_sizes_are_equal_if_they_always_are(n):
    n.batch.is_open = False
    assert n != 12
    assert n + 1 == 1 + n
    assert 1 / n == 1 / n
    assert 1 / n != 2 / n
    assert n * 2 > 20
    assert int(n) == 12
    assert not guards(n)


def test_a_size_shows_its_number_and_tells_its_expression(n):
    assert f"{n} {n:>4} {2 * n}" == "12   12 24"
    assert repr(2 * n + 1) == "Size(2·n + 1 = 25)"
    assert repr(1 / (2 * n)) == f"Number(1 / (2·n) = {1 / 24})"
