"""Convolution and pooling in native code: any geometry, every kind of kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="native code needs llvmlite")

import chainrule as cr
from chainrule import nn
from chainrule.compiler.host import host_target, usable_targets
from chainrule.compiler.ir import Geometry
from chainrule.compiler.polyphase import polyphase
from chainrule.errors import ChainruleError
from chainrule.ops.window import Window

NUM_DRAWS = 12


def normal(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng([seed, *shape]).normal(size=shape)


@pytest.fixture(params=usable_targets())
def target(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CHAINRULE_TARGET", request.param)
    host_target.cache_clear()
    yield request.param
    host_target.cache_clear()


def drawn(kind: str, seed: int) -> tuple[Any, list[Any], str] | None:
    """A function, operands and a dtype; None where the window does not fit."""
    rng = np.random.default_rng([seed, len(kind)])

    def pair(*choices: int) -> tuple[int, int]:
        a, b = rng.choice(choices, 2)
        return int(a), int(b)

    groups = int(rng.choice([1, 1, 2, 3]))
    ins = groups * int(rng.choice([1, 2, 3, 16, 20]))
    outs = groups * int(rng.choice([1, 3, 4, 17, 32, 40]))
    size, stride, dilation = pair(1, 2, 3, 4), pair(1, 2, 3), pair(1, 1, 2)
    padding, sizes = pair(0, 1, 2), pair(1, 4, 7, 13)
    x = rng.normal(size=(int(rng.choice([1, 4, 9, 17])), *sizes, ins))
    options: dict[str, Any] = {"stride": stride, "dilation": dilation}
    if kind == "conv":
        f = lambda x, w: cr.relu(  # noqa: E731
            cr.conv(x, w, padding=padding, groups=groups, **options)
        )
        operands = [x, rng.normal(size=(*size, ins // groups, outs))]
    elif kind == "conv_transpose":
        f = lambda x, w: cr.conv_transpose(  # noqa: E731
            x, w, padding=padding, groups=groups, **options
        )
        operands = [x, rng.normal(size=(*size, outs // groups, ins))]
    else:
        inside = tuple(min(k // 2, p) for k, p in zip(size, padding, strict=True))
        more: dict[str, Any] = {"padding": inside, "partial": bool(seed % 2)}
        pool = cr.max_pool if kind == "max_pool" else cr.average_pool
        f = lambda x: pool(x, size, **options, **more)  # noqa: E731
        operands = [x]
    try:
        f(*map(cr.Tensor, operands))
    except ChainruleError:
        return None
    return f, operands, str(rng.choice(["float32", "float64"]))


@pytest.mark.parametrize("kind", ["conv", "conv_transpose", "max_pool", "average_pool"])
def test_any_geometry_agrees_with_numpy(kind, target, agreement):
    is_first = target == usable_targets()[0]
    for seed in range(NUM_DRAWS if is_first else NUM_DRAWS // 3):
        case = drawn(kind, seed)
        if case:
            agreement.check(*case)


@pytest.mark.parametrize(
    ("kernel", "size", "stride"),
    [
        ((3, 3, 192, 96), 13, 1),  # sums by filters that chunks share by rows of taps
        ((1, 1, 256, 320), 6, 2),  # ... and by columns
        ((11, 11, 3, 64), 35, 4),  # a long row of few channels
        ((5, 5, 1, 48), 12, 1),  # filters that a tile holds whole; a panel and a half
        ((3, 3, 20, 3), 18, 1),  # few results: dot products
        ((4, 4, 32, 1), 14, 2),
        ((2, 2, 40, 40), 70, 2),  # images that are several chunks
    ],
)
def test_every_kernel_agrees_with_numpy(kernel, size, stride, agreement):
    x, w = normal(2, size, size, kernel[2]), normal(*kernel)

    def f(x: Any, w: Any) -> Any:
        return cr.relu(cr.conv(x, w, stride=stride, padding=1))

    # In float64 all sums are direct.
    for dtype in ("float32", "float64"):
        agreement.check(f, [x, w], dtype)
    back = normal(2, size // 2, size // 2, kernel[3])

    def g(x: Any, w: Any) -> Any:
        return cr.conv_transpose(x, w, stride=stride, padding=1)

    agreement.check(g, [back, w], "float32")


@pytest.mark.parametrize(
    ("n", "sizes", "kernel", "stride", "dilation", "is_cut"),
    [
        (2, (9, 31), (3, 3, 70, 33), 1, 1, False),  # some rows of an image at a time
        (5, (7, 5), (1, 1, 64, 100), 2, 1, False),  # several images at a time
        (1, (14, 41), (2, 3, 129, 40), 2, 2, True),
        (1, (21, 21), (7, 7, 64, 40), 1, 1, False),  # chunks for each row of taps
    ],
)
def test_sums_by_filters_of_many_channels_agree_with_numpy(
    n, sizes, kernel, stride, dilation, is_cut, target, agreement, monkeypatch
):
    if is_cut:  # so few bytes that the image is copied for some channels at a time
        monkeypatch.setattr("chainrule.compiler.filters._COPIED_BYTES", 40_000)
    x, w = normal(n, *sizes, kernel[2]), normal(*kernel)

    def f(x: Any, w: Any) -> Any:
        return cr.conv(x, w, stride=stride, dilation=dilation, padding=1)

    agreement.check(f, [x, w], "float32")
    if target == usable_targets()[0] and not is_cut:
        agreement.check(f, [x, w], "float64")


def test_images_of_many_batch_sizes_share_one_function(agreement):
    w = normal(3, 3, 2, 5)

    def f(x: Any, w: Any) -> Any:
        return cr.max_pool(cr.conv(x, w, padding="same"), 2)

    compiled = agreement.check(f, [normal(4, 6, 6, 2), w], "float32")
    for n in (1, 3, 17, 40):
        agreement.check_again(compiled, f, [normal(n, 6, 6, 2), w], "float32")
    assert "1+6+1" in compiled.text("arrange")  # margins, of zeros also for other n


def test_a_value_with_margins_is_returned_flattened_and_read_without_them(agreement):
    w, v = normal(3, 3, 4, 4), normal(3, 3, 4, 6)

    def f(x: Any, w: Any, v: Any) -> Any:
        y = cr.tanh(cr.conv(x, w, padding="same"))
        z = cr.conv(y, v, padding="same")
        flat = cr.reshape(y, (-1, 5 * 7 * 4))
        return y, z, flat @ cr.transpose(flat[:1]), y.sum(axis=(1, 2)), y[:, ::2, 1]

    agreement.check(f, [normal(3, 5, 7, 4), w, v], "float32")


def test_layers_that_share_images_are_one_chain(agreement):
    w, v = normal(3, 3, 4, 6), normal(3, 3, 6, 3)

    def f(x: Any, w: Any, v: Any) -> Any:
        y = cr.max_pool(cr.relu(cr.conv(x, w, padding="same")), 2)
        z = cr.conv(cr.tanh(y), v, stride=2, padding=1)
        return z, z.mean(axis=(0, 1, 2)), y.sum(axis=0)

    compiled = agreement.check(f, [normal(9, 12, 10, 4), w, v], "float32")
    assert "(convolution) → " in compiled.text("memory")
    for n in (1, 3, 8, 40):
        agreement.check_again(compiled, f, [normal(n, 12, 10, 4), w, v], "float32")
    # Where there are few images, threads share one.
    few = agreement.check(f, [normal(3, 12, 10, 4), w, v], "float32")
    assert "→" not in few.text("memory")


def test_a_chain_reads_no_image_but_its_own(agreement):
    def f(x: Any, w: Any) -> Any:
        y = cr.conv(x, w, padding="same")
        return y + y[::-1]  # each image with one from the other end

    agreement.check(f, [normal(16, 8, 8, 4), normal(3, 3, 4, 4)], "float32")


def test_a_pixel_is_painted_by_taps_a_stride_apart():
    window = Window((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    phases = polyphase("data", Geometry(1, (6, 6), (3, 3), 1, 1, window))
    found = [
        (p.rows.first, p.rows.tap, p.rows.tap_step, p.rows.count, p.rows.offset)
        for p in phases[::2]
    ]
    # Pixel 2q is the middle tap of output q; pixel 2q + 1 the last tap of output q and
    # the first of output q + 1.
    assert found == [(0, 1, -2, 1, 0), (1, 2, -2, 2, 0)]


def test_batch_normalisation_reads_the_images_once_each_way_for_its_sums():
    norm = nn.BatchNorm(5)

    def step(x: Any, w: Any) -> Any:
        x = x.detach()
        x.requires_grad = True
        y = (cr.tanh(norm(x)) * w).sum()
        y.backward()
        return x.grad

    compiled = cr.compile(step)
    compiled(normal(4, 9, 9, 5), normal(4, 9, 9, 5))
    kernels = [k for k in compiled.report().kernels if "over [9, 9]" in k]
    # Mean and squares are summed image by image, in one walk; so are the gradients.
    assert len(kernels) == 2


_BITS = """
import sys, numpy as np, chainrule as cr
from chainrule import nn, optim
cr.manual_seed(0)
rng = np.random.default_rng(0)
net = nn.Sequential(
    nn.Conv(3, 16, 3, padding="same"), nn.BatchNorm(16), nn.ReLU(), nn.MaxPool(2),
    nn.Conv(16, 40, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool(3, stride=2),
    nn.Flatten(), nn.Dense(360, 4),
)
adam = optim.optimizer("adam", net.named_parameters(), lr=0.01)
@cr.compile
def step(x, y):
    loss = nn.softmax_cross_entropy(net(x), y)
    loss.backward()
    adam.step()
    adam.zero_grad()
    return loss
for n in (16, 16, 5):
    step(rng.normal(size=(n, 32, 28, 3)).astype("float32"), rng.integers(0, 4, n))
print(b"".join(v.tobytes() for v in net.state().values()).hex())
"""


def test_the_bits_of_a_convolutional_net_do_not_depend_on_the_number_of_threads():
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
