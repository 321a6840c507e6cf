"""Restoring photographs: networks beside tuned classical methods, in one table.

    python benchmarks/restoration.py                       # every row: about an hour
    python benchmarks/restoration.py denoising --minutes 1 # a trial
    python benchmarks/restoration.py --json restoration.json --markdown restoration.md

Needs the extra ``vision``: the photographs come with scikit-image and scikit-learn.
Six of them, in colour, are held out; the others, grey ones among them, are trained on,
together with CIFAR-10 (CHAINRULE_DATA_DIR), which has test pictures of its own. Of two
views of one scene, one is used. Baselines are told the noise and the blur, and their
parameters are tuned on photographs of the training part, or on training pictures of
CIFAR-10. PSNR is of the squared error pooled over all pictures of a set, clipped to 0
to 255.

A training takes ``--minutes``, in which as many steps are made as the first ones say
will fit. ``--steps`` sets their number: the same number gives the same result on the
same machine. Finished rows are kept in ``--runs`` and not made again.

Exits 1 if a row misses what is asked of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import machine
import numpy as np

import chainrule as cr
from chainrule import data, nn, optim, restoration
from chainrule.data.corruptions import (
    Chain,
    Damaged,
    parse_corruptions,
)
from chainrule.restoration.tiles import restore_in_tiles
from chainrule.tasks.first_guess import first_guess

Array = np.ndarray[Any, Any]

TEST = ("astronaut", "chelsea", "coffee", "rocket", "china.jpg", "flower.jpg")
TRAINING = (
    "motorcycle_left.png", "immunohistochemistry", "retina", "hubble_deep_field",
    "camera", "coins", "moon", "brick", "grass", "gravel", "page",
)  # fmt: skip
TUNING = ("motorcycle_left.png", "immunohistochemistry", "retina", "hubble_deep_field")
NUM_CIFAR = 500  # test pictures: enough for two decimals
TUNING_SIDE = 128  # of the parts of photographs on which baselines are tuned
PATCH, BATCH = 48, 8
SEED = 0


# ------------------------------------------------------------------------- pictures


def photograph(name: str) -> Array:
    """One picture as levels (h, w, 3)."""
    import skimage.data
    import sklearn.datasets
    from PIL import Image

    if name in {"china.jpg", "flower.jpg"}:
        levels = sklearn.datasets.load_sample_image(name)
    elif name == "motorcycle_left.png":  # its loader also fetches the right view
        levels = np.asarray(Image.open(Path(skimage.data.__file__).parent / name))
    else:
        levels = getattr(skimage.data, name)()
    levels = levels if levels.ndim == 3 else levels[..., None].repeat(3, axis=-1)
    return np.ascontiguousarray(levels[..., :3], np.float32)


@cache
def photographs(part: str) -> list[Array]:
    return [photograph(n) for n in {"test": TEST, "training": TRAINING}[part]]


@cache
def cifar(part: str) -> Array:
    """CIFAR-10's pictures (n, 32, 32, 3), bytes; only some of the test part."""
    splits = data.load("cifar10", validation=0.0)
    if part == "training":
        return splits.train.read(np.arange(len(splits.train)))
    chosen = np.linspace(0, len(splits.test) - 1, NUM_CIFAR).astype(int)
    return splits.test.read(chosen)


def tuning_pictures(name: str) -> list[Array]:
    """Batches of training pictures on which baselines are tuned."""
    if name == "cifar10":
        return [cifar("training")[:100].astype(np.float32)]
    parts = []
    for photo in map(photograph, TUNING):
        top, left = ((size - TUNING_SIDE) // 2 for size in photo.shape[:2])
        parts.append(photo[top : top + TUNING_SIDE, left : left + TUNING_SIDE])
    return [np.stack(parts)]


def test_pictures(name: str) -> list[Array]:
    if name == "cifar10":
        return [cifar("test").astype(np.float32)]
    return [photo[None] for photo in photographs("test")]


def patches(rng: np.random.Generator, recolors: bool) -> Iterator[Array]:
    """Minibatches without end, of photographs and of CIFAR-10 in turn."""
    photos, small = photographs("training"), cifar("training")
    is_grey = np.array([(p[..., :1] == p).all() for p in photos])
    # Colours are learned from few photographs: those come as often as all the grey.
    chances = np.where(is_grey, 0.5 / max(is_grey.sum(), 1), 0.5 / (~is_grey).sum())
    count = BATCH * PATCH**2 // 32**2
    change = recolored if recolors else lambda batch, rng: batch
    while True:
        batch = np.empty((BATCH, PATCH, PATCH, 3), np.float32)
        for i, which in enumerate(rng.choice(len(photos), BATCH, p=chances)):
            photo = photos[which]
            top, left = (
                int(rng.integers(size - PATCH + 1)) for size in photo.shape[:2]
            )
            batch[i] = photo[top : top + PATCH, left : left + PATCH]
        yield change(turned(batch, rng), rng)
        chosen = np.sort(rng.choice(len(small), count, replace=False))
        yield change(turned(small[chosen].astype(np.float32), rng), rng)


def turned(batch: Array, rng: np.random.Generator) -> Array:
    """Each picture in one of its eight orientations."""
    out = np.empty_like(batch)
    for i, (turns, is_flipped) in enumerate(
        zip(rng.integers(4, size=len(batch)), rng.random(len(batch)) < 0.5, strict=True)
    ):
        picture = np.rot90(batch[i], turns)
        out[i] = picture[:, ::-1] if is_flipped else picture
    return out


def recolored(batch: Array, rng: np.random.Generator) -> Array:
    """Half of the pictures in other colours, also more vivid than few photographs are.

    Channels change places, and what distinguishes them is multiplied by 0.5 to 2.5.
    """
    out = batch.copy()
    for i in np.flatnonzero(rng.random(len(batch)) < 0.5):
        mixed = batch[i][..., rng.permutation(3)]
        grey = mixed.mean(axis=-1, keepdims=True)
        out[i] = np.clip(grey + rng.uniform(0.5, 2.5) * (mixed - grey), 0, 255)
    return out


# ------------------------------------------------------------------------- networks


class Demosaicking(nn.Module):
    """Colour filters, and the network that makes a picture of what they measure.

    A linear filter of the measurements around a pixel, and a correction that is not.
    """

    def __init__(self, filters: nn.ColorFilterArray, width: int, depth: int) -> None:
        planes = filters.period**2
        self.filters = filters
        self.linear = nn.Conv(planes, 3, 7, padding=3, initializer="lecun_normal")
        layers: list[nn.Module] = []
        channels = planes
        for _ in range(depth - 1):
            layers += [nn.Conv(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.Conv(width, 3, 3, padding=1, initializer="zeros"))
        self.correction = nn.Sequential(*layers)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        channels = (x[..., :3], x[..., 3:]) if x.shape[-1] > 3 else (x,)
        planes = self.filters(*channels)
        return self.linear(planes) + self.correction(planes)


class Highlights(nn.Module):
    """DnCNN for clipped values alone: all others are what they are."""

    def __init__(self, channels: int) -> None:
        self.network = dncnn(channels)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        guess, is_clipped = x[..., :3], x[..., 3:]
        return guess + is_clipped * (self.network(x) - guess)


def dncnn(channels: int) -> nn.Module:
    """It sees 8 pixels each way; wider networks learned the few photographs' colours.

    U-Net, for one, was 0.8 dB behind Richardson-Lucy on the photographs where this was
    0.8 dB ahead.
    """
    return nn.dncnn((PATCH, PATCH, channels), 3, width=32, depth=8)


NOISE = {"shot": 0.02, "read": 0.02}  # of the sensor under learned filters: dim light


def features(damaged: Damaged, chain: Chain) -> Array:
    """What a network is given, all from 0 to 1; it adds its correction to the guess."""
    found = first_guess(damaged, chain).copy()  # it may be what was observed itself
    found[..., :3] /= np.float32(255)
    return found


# ----------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Row:
    """A corruption, the network that undoes it, and what is asked of the result."""

    title: str
    corruption: tuple[str, ...]
    network: Callable[[int], nn.Module]
    """A function of the number of its input channels."""
    wanted: float = 0.7
    """By how many decibels it has to be better than the best of the others."""
    others: dict[str, Callable[[int], nn.Module]] = field(default_factory=dict)
    """Networks that are compared with it, in the place of classical methods."""
    has_filters: bool = False
    """Whether the network is given the true picture, and measures it itself."""
    recolors: bool = True
    """Whether it is trained on pictures in other colours too, as vivid ones are few."""
    lr: float = 2e-3

    @property
    def chain(self) -> Chain:
        return parse_corruptions(self.corruption or ("mosaic:bayer",))

    def damaged(self, truth: Array, seed: int, step: int) -> Damaged:
        return self.chain(truth, data.Keys(seed, step, np.arange(len(truth))))

    def inputs(self, truth: Array, seed: int, step: int) -> Array:
        """What the network gets of true pictures."""
        light = truth / np.float32(255)
        if not self.has_filters:
            return features(self.damaged(truth, seed, step), self.chain)
        if not self.others:
            return light
        keys = data.Keys(seed, step, np.arange(len(truth)))
        noise = keys.normal("sensor", (*truth.shape[1:3], 1))
        return np.concatenate([light, noise], axis=-1)


ROWS = {
    "denoising": Row("denoising, σ = 25", ("noise:gaussian:25",), dncnn),
    "deblurring": Row(
        "deblurring, Gaussian σ = 1.5 and noise σ = 2",
        ("blur:gaussian:1.5", "noise:gaussian:2"),
        dncnn,
    ),
    "demosaicking": Row(
        "demosaicking of Bayer's filters",
        ("mosaic:bayer",),
        lambda _: Demosaicking(nn.ColorFilterArray.bayer(), 32, 8),
        wanted=0.01,
        has_filters=True,
    ),
    "filters": Row(
        "learned filters, of a sensor with noise",
        (),
        lambda _: Demosaicking(
            nn.ColorFilterArray(
                2, colors="rgbw", start="wrgb", sharpening=0.003, **NOISE
            ),
            32,
            8,
        ),
        wanted=0.0,
        others={
            "Bayer's filters": lambda _: Demosaicking(
                nn.ColorFilterArray.bayer(**NOISE), 32, 8
            )
        },
        has_filters=True,
    ),
    "exposure": Row(
        "one exposure, a stop too long",
        ("exposure:2",),
        Highlights,
        recolors=False,  # the point is what is bright in the world, and of which colour
    ),
    "raw": Row("raw data, ISO 1600, to picture", ("raw:1600",), dncnn),
}


# ------------------------------------------------------------------------ training

TRIAL = 20  # steps by which the time of all others is told
TRAINING_SEED, TEST_SEED, TUNING_SEED = 0, 1, 2


def train(row: Row, minutes: float, num_steps: int | None) -> tuple[nn.Module, Any]:
    """A network that is trained on patches, and how that went."""
    nn.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    source = patches(rng, row.recolors)
    network = row.network(row.inputs(next(source), TRAINING_SEED, 0).shape[-1])
    network = network.initialize(SEED).train()
    # A pattern has few numbers, and what reads it has to wait for it.
    quick = [optim.Group("filters.weight", lr_scale=10.0)]
    is_learned = any(path == "filters.weight" for path, _ in network.named_parameters())
    chosen = optim.optimizer(
        "adam", network.named_parameters(), lr=row.lr, groups=quick * is_learned
    )

    @cr.compile
    def update(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        loss = cr.mean(cr.square(network(x) - y))
        loss.backward()
        optim.clip_by_norm(network.parameters(), 0.1)
        chosen.step()
        chosen.zero_grad()
        return loss

    began = measured = time.perf_counter()
    losses: list[float] = []
    step = 0
    while num_steps is None or step < num_steps:
        if step == 2:  # the first of each size are compiled
            measured = time.perf_counter()
        if step == TRIAL and num_steps is None:
            step_s = (time.perf_counter() - measured) / (TRIAL - 2)
            num_steps = max(step, int((60 * minutes - (measured - began)) / step_s))
        whole = num_steps or 100_000
        warm = min(1.0, (step + 1) / 100)
        chosen.set_lr(row.lr * warm * 0.5 * (1 + np.cos(np.pi * step / whole)))
        truth = next(source)
        x = row.inputs(truth, TRAINING_SEED, step)
        losses.append(float(update(x, truth / np.float32(255)).data))
        step += 1
        if step % 500 == 0 and sys.stderr.isatty():
            error = np.mean(losses[-500:])
            print(f"  step {step} of {num_steps}, error {error:.3g}", file=sys.stderr)
    return network.eval(), {
        "steps": step,
        "time_s": time.perf_counter() - began,
        "parameters": network.num_parameters(),
    }


def restorer(network: nn.Module) -> Callable[[Array], Array]:
    """A function of features (n, h, w, k): pictures in levels, restored in tiles."""

    @cr.compile
    def forward(x: cr.Tensor) -> cr.Tensor:
        with cr.no_grad():
            return network(x)

    def restore(batch: Array) -> Array:
        field = nn.receptive_field(network, (64, 64, batch.shape[-1]))
        each = [
            restore_in_tiles(lambda x: forward(x).numpy(), x, field, tile=256)
            for x in batch
        ]
        return np.clip(255 * np.stack(each), 0, 255)

    return restore


# ------------------------------------------------------------------------- measuring


def scores(
    row: Row, restorers: dict[str, Callable[[Array], Array]], name: str
) -> dict[str, Any]:
    """Networks and, unless they are compared with each other, classical methods."""
    truth = test_pictures(name)
    inputs = [row.inputs(x, TEST_SEED, i) for i, x in enumerate(truth)]
    methods = {
        title: quality(truth, [restore(x) for x in inputs])
        for title, restore in restorers.items()
    }
    if row.others:
        return {"methods": methods}
    damaged = [row.damaged(x, TEST_SEED, i) for i, x in enumerate(truth)]
    tuning = tuning_pictures(name)
    seen = [row.damaged(x, TUNING_SEED, i) for i, x in enumerate(tuning)]
    for method in restoration.applicable(row.chain):
        parameters = restoration.tune(method, seen, tuning, row.chain)
        found = [
            restoration.restore_with(method, d, row.chain, **parameters)
            for d in damaged
        ]
        methods[method] = quality(truth, found) | {
            "parameters": {k: plain(v) for k, v in parameters.items()}
        }
        note(f"  {name}: {method} {methods[method]['psnr']:.2f} dB")
    return {
        "damaged": quality(truth, [np.clip(d.pictures, 0, 255) for d in damaged]),
        "methods": methods,
    }


def quality(truth: Sequence[Array], restored: Sequence[Array]) -> dict[str, Any]:
    each = [restoration.psnr(x, y) for x, y in zip(truth, restored, strict=True)]
    pictures = [[p for batch in part for p in batch] for part in (truth, restored)]
    return {
        "psnr": restoration.psnr(truth, restored),
        "ssim": restoration.ssim(*pictures),
        "each": each if len(each) > 1 else [],
    }


def plain(value: Any) -> Any:
    return np.round(value, 2).tolist() if isinstance(value, np.ndarray) else value


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def make(name: str, minutes: float, steps: int | None) -> dict[str, Any]:
    """Train and measure a row."""
    row = ROWS[name]
    found: dict[str, Any] = {"title": row.title, "corruption": list(row.corruption)}
    found |= {"wanted": row.wanted, "training": {}, "filters": {}}
    restorers = {}
    for title, network in {"network": row.network, **row.others}.items():
        model, training = train(replace(row, network=network), minutes, steps)
        note(f"{name}: {title}, {training['steps']} steps, {training['time_s']:.0f} s")
        restorers[title] = restorer(model)
        found["training"][title] = training
        if isinstance(model, Demosaicking):
            found["filters"][title] = plain(model.filters.filters().numpy())
    sets = {s: scores(row, restorers, s) for s in ("photographs", "cifar10")}
    return found | {"sets": sets, "machine": machine.description()}


def best_other(methods: dict[str, Any]) -> str:
    """The best of what the network is compared with."""
    others = [method for method in methods if method != "network"]
    return max(others, key=lambda method: methods[method]["psnr"])


def lines(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(row, set, numbers) of all that is made, in the order of the table."""
    for name in filter(results.__contains__, ROWS):
        for chosen, found in results[name]["sets"].items():
            methods = found["methods"]
            other, network = best_other(methods), methods["network"]
            known = restoration.BASELINES.get(other)
            yield (
                name,
                chosen,
                {
                    "damaged": found["damaged"]["psnr"] if "damaged" in found else None,
                    "other": known.title if known else other,
                    "best": methods[other]["psnr"],
                    "network": network["psnr"],
                    "ssim": network["ssim"],
                    "gain": network["psnr"] - methods[other]["psnr"],
                },
            )


def misses(results: dict[str, Any]) -> list[str]:
    """Everything that is asked and not so, in words."""
    return [
        f"{name}, {chosen}: {found['gain']:+.2f} dB, not {results[name]['wanted']:+.1f}"
        for name, chosen, found in lines(results)
        if not found["gain"] >= results[name]["wanted"]
    ]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    rows = [
        "| task | pictures | damaged | best other | | network | gain | asked | SSIM |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, chosen, found in lines(results):
        pictures = {"photographs": f"{len(TEST)} photographs", "cifar10": "CIFAR-10"}
        cells = [
            results[name]["title"],
            pictures[chosen],
            "" if found["damaged"] is None else f"{found['damaged']:.2f} dB",
            found["other"],
            f"{found['best']:.2f} dB",
            f"{found['network']:.2f} dB",
            f"{found['gain']:+.2f} dB",
            f"≥ {results[name]['wanted']:+.1f} dB",
            f"{found['ssim']:.3f}",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--minutes", type=float, default=7.0, help="of each training")
    parser.add_argument("--steps", type=int, help="of each training, in their place")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/restoration"), metavar="DIR",
        help="where finished rows are kept (runs/restoration)",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results there")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the table there"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in ROWS:
            parser.error(f"no row {name!r}; there are {', '.join(ROWS)}")
    arguments.runs.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or ROWS:
        path = arguments.runs / f"{name}.json"
        if not path.exists():
            found = make(name, arguments.minutes, arguments.steps)
            path.write_text(json.dumps(found, indent=2) + "\n")
    results = {
        name: json.loads((arguments.runs / f"{name}.json").read_text())
        for name in ROWS
        if (arguments.runs / f"{name}.json").exists()
    }
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    if arguments.markdown:
        arguments.markdown.write_text(table(results))
    missed = misses(results)
    print("\n".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
