"""Convolutions with fewer multiplications: the algebra, where it pays, the code."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule.compiler.host import host_target, usable_targets
from chainrule.compiler.ir import Convolution, Geometry
from chainrule.compiler.pipeline import build
from chainrule.compiler.winograd import Winograd, winograd_tile
from chainrule.core.capture import capture
from chainrule.ops.window import Window

FLOAT32 = np.dtype("float32")


def images(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """What a layer sees after a ReLU."""
    drawn = np.random.default_rng([seed, *shape]).normal(size=shape)
    return np.maximum(drawn, 0).astype("float32")


def filters(*shape: int) -> np.ndarray[Any, Any]:
    drawn = np.random.default_rng([1, *shape]).normal(size=shape)
    return (drawn / np.sqrt(np.prod(shape[:-1]))).astype("float32")


@pytest.fixture(params=usable_targets())
def target(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CHAINRULE_TARGET", request.param)
    host_target.cache_clear()
    yield request.param
    host_target.cache_clear()


def convolutions(f: Any, *arrays: Any) -> dict[str, int]:
    """The tile of each convolution in a function's program, by what it is made by."""
    kernels = build(capture(f, [cr.Tensor(a) for a in arrays])).fused.kernels
    cores = [c for k in kernels for c in k.cores if isinstance(c, Convolution)]
    return {core.by: core.tile for core in cores}


def with_gradients(padding: int) -> Any:
    def f(x: Any, w: Any, z: Any) -> Any:
        def loss(x: Any, w: Any) -> Any:
            return (cr.conv(x, w, padding=padding) * z).sum()

        return cr.conv(x, w, padding=padding), *cr.grad(loss, (0, 1))(x, w)

    return f


# ----------------------------------------------------------------------- algebra


@pytest.mark.parametrize(
    ("m", "r"), [(m, t + 1 - m) for t in (4, 6) for m in range(2, t)]
)
def test_products_at_points_are_a_correlation(m, r):
    form, rng = Winograd(m, r), np.random.default_rng(m)
    x, w = rng.normal(size=(form.size, form.size)), rng.normal(size=(r, r))
    at, g, bt = map(np.array, (form.results, form.filters, form.pixels))
    found = at @ ((g @ w @ g.T) * (bt @ x @ bt.T)) @ at.T
    for i, j in itertools.product(range(m), repeat=2):
        assert found[i, j] == pytest.approx((x[i : i + r, j : j + r] * w).sum())


def geometry(
    size: int = 3, image: int = 16, channels: int = 32, stride: int = 1,
    dilation: int = 1, groups: int = 1,
) -> Geometry:  # fmt: skip
    window = Window(
        (size, size), (stride, stride), ((size // 2,) * 2,) * 2, (dilation, dilation)
    )
    places = (-(-image // stride),) * 2
    return Geometry(8, (image,) * 2, places, channels, channels, window, groups)


@pytest.mark.parametrize(
    ("by", "given", "tile"),
    [
        ("outputs", {}, 4),
        ("outputs", {"image": 13}, 2),  # 4 would give 1.4 times less, 2 gives 1.9
        ("filters", {"image": 13}, 4),  # where it costs no larger filters
        ("data", {"size": 5, "image": 14}, 2),
        ("outputs", {"size": 5, "image": 27}, 2),
        ("outputs", {"size": 2}, 3),
        ("outputs", {"size": 1}, 0),
        ("outputs", {"size": 7}, 0),
        ("outputs", {"image": 3}, 0),  # a tile of 2 would be used for 1 pixel in two
        ("outputs", {"image": 1}, 0),
        ("outputs", {"channels": 8}, 0),
        ("filters", {"stride": 2}, 0),
        ("outputs", {"dilation": 2}, 0),
        ("data", {"groups": 2}, 0),
    ],
)
def test_tiles_are_used_where_they_save_enough(by, given, tile):
    g = geometry(**given)
    assert winograd_tile(by, g, g.window.size, g.places, FLOAT32) == tile
    assert winograd_tile(by, g, g.window.size, g.places, np.dtype("float64")) == 0


# -------------------------------------------------------------------------- code


@pytest.mark.parametrize(
    ("n", "sizes", "kernel", "padding"),
    [
        (3, (8, 12), (3, 3, 16, 16), 1),
        (2, (13, 13), (3, 3, 20, 35), 1),  # vectors and panels that are not full
        (5, (9, 11), (5, 5, 17, 33), 2),  # tiles that begin before their place
        (1, (33, 70), (3, 3, 16, 16), 0),  # an image that is several chunks
        (9, (6, 6), (4, 4, 32, 16), 1),
        (2, (12, 9), (2, 2, 16, 48), 0),
    ],
)
def test_values_and_gradients_agree_with_numpy(
    n, sizes, kernel, padding, target, agreement
):
    x, w = images(n, *sizes, kernel[2]), filters(*kernel)
    outputs = [s + 2 * padding - kernel[0] + 1 for s in sizes]
    z = images(n, *outputs, kernel[3], seed=2)
    f = with_gradients(padding)
    used = convolutions(f, x, w, z)
    assert set(used) == {"outputs", "data", "filters"}
    assert all(used.values())

    def g(x: Any, w: Any) -> Any:
        return cr.relu(cr.conv(x, w, padding=padding) + 0.5)

    agreement.check(g, [x, w], "float32")


def test_few_tiles_at_a_time_and_divided_filters_agree_too(agreement, monkeypatch):
    pixels, by_filters = (f"chainrule.compiler.winograd_{x}" for x in
                          ("pixels", "filters"))  # fmt: skip
    monkeypatch.setattr(f"{pixels}._SCRATCH_BYTES", 60_000)
    monkeypatch.setattr("chainrule.compiler.convolution._CHUNK_FLOP", 1_000_000)
    monkeypatch.setattr(f"{by_filters}._SUMS_BYTES", 200_000)
    monkeypatch.setattr(f"{by_filters}._TILES_BYTES", 60_000)
    x, w = images(3, 22, 25, 40), filters(3, 3, 40, 100)
    agreement.check(lambda x, w: cr.conv(x, w, padding=1), [x, w], "float32")


@pytest.mark.parametrize(("size", "most"), [(2, 3.5), (3, 1.5), (3, 3.5), (5, 3.5)])
def test_errors_are_a_small_multiple_of_a_direct_sums(size, most):
    # 13 pixels make tiles of 2×2 of 3×3 filters, 16 make tiles of 4×4.
    image = 13 if most < 2 else 16
    x, w = images(4, image, image, 64), filters(size, size, 64, 32)

    def f(x: Any, w: Any) -> Any:
        return cr.conv(x, w, padding=size // 2)

    assert convolutions(f, x, w)["outputs"] > 0
    exact = f(cr.Tensor(x.astype("float64")), cr.Tensor(w.astype("float64"))).numpy()
    # A direct sum in the order of the taps, as native code makes it.
    low, high = size // 2, size // 2
    wide = np.pad(x, ((0, 0), (low, high), (low, high), (0, 0)))
    direct = np.zeros(exact.shape, "float32")
    for i, j, c in itertools.product(range(size), range(size), range(64)):
        seen = wide[:, i : i + exact.shape[1], j : j + exact.shape[2], c]
        direct += seen[..., None] * w[i, j, c]
    found = cr.compile(f)(x, w).numpy()
    errors = [np.sqrt(np.mean((y - exact) ** 2)) for y in (found, direct)]
    assert 0 < errors[0] <= most * errors[1]


def test_an_image_has_the_same_bits_alone_and_among_others():
    x, w = images(7, 14, 14, 32), filters(5, 5, 32, 64)
    f = cr.compile(lambda x, w: cr.conv(x, w, padding=2))
    together = f(x, w).numpy()
    for i in range(7):
        np.testing.assert_array_equal(f(x[i : i + 1], w).numpy()[0], together[i])


_BITS = """
import numpy as np, chainrule as cr
from chainrule import nn, optim
cr.manual_seed(0)
rng = np.random.default_rng(0)
net = nn.Sequential(
    nn.Conv(3, 16, 3, padding="same"), nn.ReLU(), nn.Conv(16, 40, 5, padding="same"),
    nn.BatchNorm(40), nn.ReLU(), nn.MaxPool(2), nn.Conv(40, 64, 3, padding="same"),
    nn.ReLU(), nn.GlobalAveragePool(), nn.Dense(64, 4),
)
adam = optim.optimizer("adam", net.named_parameters(), lr=0.01)
@cr.compile
def step(x, y):
    loss = nn.softmax_cross_entropy(net(x), y)
    loss.backward()
    adam.step()
    adam.zero_grad()
    return loss
for n in (32, 32, 5):
    step(rng.normal(size=(n, 16, 14, 3)).astype("float32"), rng.integers(0, 4, n))
print(b"".join(v.tobytes() for v in net.state().values()).hex())
"""


def test_the_bits_do_not_depend_on_the_number_of_threads():
    found = []
    for threads in ("1", "2", "3"):
        environment = {**os.environ, "CHAINRULE_NUM_THREADS": threads}
        run = subprocess.run(
            [sys.executable, "-c", _BITS], env=environment, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        found.append(run.stdout)
    assert found[0]
    assert len(set(found)) == 1


_SMALL_STACK = """
import threading
import numpy as np, chainrule as cr
x, w = np.ones((9, 13, 13, 192), "f"), np.ones((3, 3, 192, 64), "f")
f = cr.compile(lambda x, w: cr.grad(lambda x, w: cr.conv(x, w).sum(), (0, 1))(x, w))
threading.stack_size(256 << 10)
thread = threading.Thread(target=lambda: print(f(x, w)[1].numpy().min()))
thread.start()
thread.join()
"""


def test_a_thread_with_a_small_stack_can_call_it():
    run = subprocess.run(
        [sys.executable, "-c", _SMALL_STACK], capture_output=True, text=True, check=True
    )
    assert float(run.stdout) == 9 * 11 * 11
