"""Segmenting overlapping digits over textures that were never seen: mean IoU.

    python benchmarks/segmentation.py                      # a few minutes
    python benchmarks/segmentation.py --scenes 500 --epochs 1
    python benchmarks/segmentation.py --folder scenes --json segmentation.json

A scene of 64×64 pixels has three MNIST digits, scaled, turned and in colours of their
own, each of which reaches into another, over a part of a texture or a photograph that
comes with scikit-image. Digits of the test scenes are MNIST's test digits, and no
texture of theirs is in a training scene. Eleven classes: the background, and each
digit; a pixel belongs to the digit on top.

The scenes are written as pictures and label maps, and the model is trained and scored
as ``chainrule train FOLDER --task segment`` and ``chainrule evaluate`` do.

Needs MNIST (CHAINRULE_DATA_DIR, or it is fetched) and the extra ``vision``.

Exits 1 if the mean IoU over the classes is below 0.8.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
from PIL import Image

from chainrule import data, tasks

Array = np.ndarray[Any, Any]

SIDE = 64
WANTED = 0.8
CLASSES = ("background", *map(str, range(10)))
TEXTURES = {
    "train": (
        "brick", "grass", "camera", "astronaut", "coffee", "coins", "moon",
        "immunohistochemistry",
    ),
    "test": ("gravel", "chelsea", "rocket", "hubble_deep_field"),
}  # fmt: skip
NUM_DIGITS = 3
DIGIT_SIDES = (32, 42)
LARGEST_TURN = 10.0  # degrees
LEAST_CONTRAST = 110  # levels of one channel, from what a digit hides
LEAST_SHARED, MOST_SHARED = 0.05, 0.4  # of a digit's square, with another's
MOST_TRIALS = 100
LEAST_INK = 0.5  # of a pixel that is the digit's


def textures(names: Sequence[str]) -> list[Image.Image]:
    """Pictures that come with scikit-image, in colour."""
    import skimage.data

    found = [np.asarray(getattr(skimage.data, name)()) for name in names]
    return [Image.fromarray(picture).convert("RGB") for picture in found]


def background(rng: np.random.Generator, pictures: Sequence[Image.Image]) -> Array:
    """A part of one of the pictures, at some scale and in some light."""
    picture = pictures[rng.integers(len(pictures))]
    side = int(rng.integers(SIDE, 3 * SIDE))
    side = min(side, *picture.size)
    left = int(rng.integers(picture.width - side + 1))
    top = int(rng.integers(picture.height - side + 1))
    part = picture.resize((SIDE, SIDE), box=(left, top, left + side, top + side))
    light = rng.uniform(0.6, 1.2, 3)
    turned = np.rot90(np.asarray(part, np.float32), rng.integers(4))
    return np.clip(turned * light, 0, 255)


def scene(
    rng: np.random.Generator,
    pictures: Sequence[Image.Image],
    digits: Array,
    labels: Array,
) -> tuple[Array, Array]:
    """One picture, uint8 (64, 64, 3), and its label map."""
    canvas = background(rng, pictures)
    classes = np.zeros((SIDE, SIDE), np.uint8)
    for top, left, side in places(rng):
        number = rng.integers(len(digits))
        glyph = Image.fromarray(digits[number]).resize((side, side), Image.BICUBIC)
        glyph = glyph.rotate(rng.uniform(-LARGEST_TURN, LARGEST_TURN), Image.BICUBIC)
        ink = np.asarray(glyph, np.float32)[..., None] / 255
        here = (slice(top, top + side), slice(left, left + side))
        is_ink = ink[..., 0] > LEAST_INK
        hidden = canvas[here][is_ink].mean(axis=0)
        canvas[here] += ink * (colour_unlike(rng, hidden) - canvas[here])
        classes[here][is_ink] = 1 + labels[number]
    noisy = canvas + rng.normal(0, 4, canvas.shape)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), classes


def places(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Squares for the digits of a scene (top, left, side), each over another's part."""
    boxes: list[tuple[int, int, int]] = []
    for _ in range(MOST_TRIALS):
        side = int(rng.integers(*DIGIT_SIDES))
        top, left = (int(v) for v in rng.integers(0, SIDE - side + 1, 2))
        box = (top, left, side)
        shares = [shared(box, other) for other in boxes] or [LEAST_SHARED]
        if LEAST_SHARED <= max(shares) <= MOST_SHARED:
            boxes.append(box)
        if len(boxes) == NUM_DIGITS:
            return boxes
    return places(rng)  # the first ones may have left no room


def shared(box: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The share of the smaller of two digits' squares that lies in the other one.

    Digits fill the middle of their pictures, 20 of 28 pixels.
    """
    (top, left, side), (y, x, size) = (
        (row + edge // 7, column + edge // 7, edge * 5 // 7)
        for row, column, edge in (box, other)
    )
    high = min(top + side, y + size) - max(top, y)
    wide = min(left + side, x + size) - max(left, x)
    return max(high, 0) * max(wide, 0) / min(side, size) ** 2


def colour_unlike(rng: np.random.Generator, hidden: Array) -> Array:
    while True:
        colour = rng.uniform(0, 255, 3)
        if np.abs(colour - hidden).max() >= LEAST_CONTRAST:
            return colour.astype(np.float32)


def write_scenes(folder: Path, counts: dict[str, int], seed: int = 0) -> None:
    """Folders of scenes, those of equal seeds alike."""
    mnist = data.load("mnist", validation=0.1)
    for part, count in counts.items():
        rng = np.random.default_rng([seed, list(counts).index(part)])
        is_test = part == "test"
        pictures = textures(TEXTURES["test" if is_test else "train"])
        source = mnist.test if is_test else mnist.train
        digits, labels = source.read(np.arange(len(source))), source.targets
        # Digits of validation scenes are in no training scene.
        cut = len(source) * 9 // 10
        parts = {"train": slice(cut), "validation": slice(cut, None)}
        kept = parts.get(part, slice(None))
        digits, labels = digits[kept, :, :, 0], labels[kept]
        for kind in ("images", "labels"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture, classes = scene(rng, pictures, digits, labels)
            name = f"{number:05}.png"
            Image.fromarray(picture).save(folder / part / "images" / name)
            Image.fromarray(classes).save(folder / part / "labels" / name)
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def measured(folder: Path, run: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train on the scenes of a folder, and score the test scenes."""
    settings = tasks.Settings(
        data=str(folder), task="segment", out=str(run), seed=0, **options
    )
    began = time.perf_counter()
    found = tasks.train(settings, listeners=[tell])
    took_s = time.perf_counter() - began
    if found.reason == "interrupted":
        sys.exit(f"stopped; to go on: chainrule resume {found.folder}")
    return {**found.results, "seconds": took_s}


def tell(event: Any) -> None:
    row = getattr(event, "validation", None)
    if row:
        print(f"  validation {row['mean_iou']:.3f} mean IoU", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=16_000, help="to train on")
    parser.add_argument("--test-scenes", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--model", default="unet")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.004)
    parser.add_argument("--class-weights", default="0.7" + 10 * ",1")
    parser.add_argument("--augment", default="shift:3")
    parser.add_argument("--folder", type=Path, help="where scenes and run are kept")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    counts = {"train": args.scenes, "validation": 200, "test": args.test_scenes}
    options = {
        name: getattr(args, name)
        for name in (
            "epochs",
            "model",
            "width",
            "depth",
            "batch_size",
            "lr",
            "class_weights",
            "augment",
        )
    }
    if args.model == "encoder_decoder":
        del options["width"], options["depth"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not (folder / "scenes" / "classes.txt").exists():
            write_scenes(folder / "scenes", counts)
        found = measured(folder / "scenes", folder / "run", options)
    print(f"{args.model}, {found['num_parameters']:,} parameters, {found['steps']:,} "
          f"steps in {found['seconds']:.0f} s on {machine.description()}")  # fmt: skip
    for name, value in found["iou"].items():
        print(f"  {name:<12}{value:.3f}")
    print(f"  mean IoU    {found['mean_iou']:.3f}   at least {WANTED}")
    print(f"  pixels      {found['pixel_accuracy']:.3f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0 if found["mean_iou"] >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
