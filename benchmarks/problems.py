"""A workload with its numbers: data, targets, the order of minibatches, first weights.

Written into a folder of ``.npy`` files, which every contestant reads, so that all of
them take the same steps.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from workloads import Workload

NUM_EPOCHS = 100  # then the order begins again
NUM_FULL_BATCHES = 10_000
POOL_SIZE = 10_000
"""From so many pictures of a source the first are taken."""


@dataclass(frozen=True)
class Problem:
    """What a contestant is given.

    ``inputs`` (N, *shape) float32; ``targets`` (N,) int64 classes, or (N, *shape)
    float32; ``order`` (steps, batch) int64, the rows that each step picks (in a full
    batch: all of them, which nobody has to pick); ``weights`` in the order of the
    network's layers.
    """

    workload: Workload
    inputs: np.ndarray
    targets: np.ndarray
    order: np.ndarray
    weights: list[np.ndarray]

    @property
    def one_hot(self) -> np.ndarray:
        """The classes as rows of 0 and 1."""
        (num_classes,) = self.workload.network.out_shape
        rows: np.ndarray = np.eye(num_classes, dtype=np.float32)[self.targets]
        return rows


def losses_of(problem: Problem, start: int, scores: Sequence[np.ndarray]) -> np.ndarray:
    """The losses of scores that inference gave, from step ``start`` on."""
    found = []
    for rows, row_scores in zip(problem.order[start:], scores, strict=False):
        x = np.asarray(row_scores, np.float64)
        x -= x.max(1, keepdims=True)
        logs = x - np.log(np.exp(x).sum(1, keepdims=True))
        found.append(-logs[np.arange(len(x)), problem.targets[rows]].mean())
    return np.array(found)


def write_problem(
    workload: Workload, folder: Path, num_epochs: int = NUM_EPOCHS
) -> str:
    """Make the numbers of a workload; say in words which data they are."""
    inputs, targets, origin = DATA[workload.data](workload)
    rng = np.random.default_rng(1)
    if workload.is_full_batch:
        order = np.arange(workload.batch)[None].repeat(NUM_FULL_BATCHES, axis=0)
    else:
        order = _order(rng, len(inputs), workload.batch, num_epochs)
    arrays = {"inputs": inputs, "targets": targets, "order": order}
    for number, weight in enumerate(workload.network.first_weights(rng)):
        arrays[f"weights{number}"] = weight
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "workload.pickle").write_bytes(pickle.dumps(workload))
    return origin


def read_problem(folder: Path) -> Problem:
    """What ``write_problem`` wrote."""
    num_weights = len(list(folder.glob("weights*.npy")))
    return Problem(
        pickle.loads((folder / "workload.pickle").read_bytes()),
        inputs=np.load(folder / "inputs.npy"),
        targets=np.load(folder / "targets.npy"),
        order=np.load(folder / "order.npy"),
        weights=[np.load(folder / f"weights{n}.npy") for n in range(num_weights)],
    )


def _order(
    rng: np.random.Generator, num_rows: int, batch: int, num_epochs: int
) -> np.ndarray:
    """Whole minibatches only, epoch after epoch, each shuffled anew."""
    num_steps = num_rows // batch
    epochs = [
        rng.permutation(num_rows)[: num_steps * batch].reshape(num_steps, batch)
        for _ in range(num_epochs)
    ]
    return np.concatenate(epochs)


# --------------------------------------------------------------------------- data
# Inputs, targets, and in words what they are.

Data = tuple[np.ndarray, np.ndarray, str]


def _random(workload: Workload) -> Data:
    rng = np.random.default_rng(0)
    x, y = (
        rng.standard_normal((workload.batch, *shape), np.float32)
        for shape in (workload.network.in_shape, workload.network.out_shape)
    )
    return x, y, "standard normal numbers"


def _classes(source: str) -> Callable[[Workload], Data]:
    def data(workload: Workload) -> Data:
        pictures, labels, origin = _pictures(source, workload.num_examples)
        return pictures.reshape(-1, *workload.network.in_shape), labels, origin

    return data


def _damaged(workload: Workload) -> Data:
    pictures, _, origin = _pictures("mnist", workload.num_examples)
    damaged = pictures.copy()
    damaged[:, 9:19, 9:19] = 0
    return (
        damaged.reshape(-1, *workload.network.in_shape),
        pictures.reshape(-1, *workload.network.out_shape),
        f"{origin}, the central 10×10 set to 0",
    )


def _enlarged(workload: Workload) -> Data:
    pictures, labels, origin = _pictures("cifar10", workload.num_examples)
    factor = workload.network.in_shape[0] // pictures.shape[1]
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    return large, labels, f"{origin}, every pixel {factor}×{factor} times"


DATA: dict[str, Callable[[Workload], Data]] = {
    "random": _random,
    "mnist": _classes("mnist"),
    "cifar10": _classes("cifar10"),
    "damaged mnist": _damaged,
    "enlarged cifar10": _enlarged,
}


def _pictures(source: str, num_examples: int) -> Data:
    """The first of 10,000 pictures, (n, h, w, c) from 0 to 1, and their classes."""
    if os.environ.get("CHAINRULE_DATA_DIR"):
        pictures, labels = _real(source)
        origin = f"{num_examples:,} pictures of {source}, scaled to 0..1"
    else:
        pictures, labels = _made_up(source)
        origin = f"{num_examples:,} made-up pictures with the sparsity of {source}"
    return pictures[:num_examples], labels[:num_examples], origin


@cache
def _real(source: str) -> tuple[np.ndarray, np.ndarray]:
    import chainrule as cr  # reads the files; no contestant needs it for its data

    train = cr.data.load(source).train
    chosen = np.random.default_rng(0).permutation(len(train))[:POOL_SIZE]
    return train.read(chosen).astype(np.float32) / 255, train.targets[chosen]


@cache
def _made_up(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Each class has a picture of its own, which noise is added to.

    Four fifths of a picture of MNIST are exactly 0, which matters where a processor is
    slower for some numbers than for others; of CIFAR-10 hardly any.
    """
    rng = np.random.default_rng(0)
    shape, is_sparse = {
        "mnist": ((28, 28, 1), True),
        "cifar10": ((32, 32, 3), False),
    }[source]
    labels = rng.integers(0, 10, POOL_SIZE)
    classes = rng.random((10, *shape), np.float32)
    noise = rng.random((POOL_SIZE, *shape), np.float32)
    pictures = (classes[labels] + noise) / 2
    if is_sparse:
        pictures[pictures < np.quantile(pictures, 0.8)] = 0
    return pictures, labels
