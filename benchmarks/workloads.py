"""The workloads of the benchmarks: what is trained, on which data, from which start.

A workload is written into a folder of ``.npy`` files as a *problem*: data, targets, the
order in which minibatches are picked, first weights. Every contestant reads the same
folder, so all of them take the same steps.

The step of every workload is the same four things: pick the minibatch by index from a
float32 array in memory, the loss, its gradients, the update.

* softmax: mean over the batch of -log softmax(scores)_label
* hinge: mean over the batch of Σ_{j≠label} max(0, s_j - s_label + 1)
* squared: mean (or sum) over the batch of Σ_outputs (output - target)²

and to the loss comes l2·ΣW², over weights and not over biases.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

NUM_EXAMPLES = 10_000
NUM_EPOCHS = 100  # then the order begins again

MOMENTUM = 0.9
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Workload:
    """A network, its loss and its update; ``sizes`` are features, layer by layer."""

    name: str
    sizes: tuple[int, ...]
    activation: str  # "sigmoid", "relu", or "" where there is no hidden layer
    loss: str  # "softmax", "hinge" or "squared"
    optimizer: str  # "sgd", "momentum" or "adam"
    lr: float
    batch: int
    data: str  # "random", "mnist", "cifar10" or "damaged mnist"
    l2: float = 0.0
    has_bias: bool = True
    reduction: str = "mean"
    is_full_batch: bool = False

    @property
    def layers(self) -> list[tuple[int, int]]:
        """(in, out) of each dense layer."""
        return list(zip(self.sizes, self.sizes[1:], strict=False))

    @property
    def flops(self) -> int:
        """Floating-point operations that the matrix products of a step need.

        2·n·in·out forward and as many for the gradient of the weights, and again for
        the gradient of the input, which the first layer does not need. The rest, small
        beside them, is not counted.
        """
        products = [num_in * num_out for num_in, num_out in self.layers]
        return 2 * self.batch * (2 * sum(products) + sum(products[1:]))

    @property
    def data_bytes(self) -> int:
        """The size of the array that minibatches are picked from."""
        num_rows = self.batch if self.is_full_batch else NUM_EXAMPLES
        return 4 * num_rows * self.sizes[0]

    def __str__(self) -> str:
        network = "-".join(map(str, self.sizes))
        parts = [network, self.activation, self.loss, self.optimizer]
        if self.l2:
            parts.append(f"λ={self.l2}")
        parts.append(f"{'full batch' if self.is_full_batch else 'batch'} {self.batch}")
        return " ".join(part for part in parts if part)


_TWENTY_LINE = Workload(
    "twenty_line",
    sizes=(1000, 100, 10),
    activation="sigmoid",
    loss="squared",
    optimizer="sgd",
    lr=1e-4,
    batch=64,
    data="random",
    has_bias=False,
    reduction="sum",
    is_full_batch=True,
)
_SMALL = Workload(
    "mnist_mlp_30_30_b10",
    sizes=(784, 30, 30, 10),
    activation="sigmoid",
    loss="softmax",
    optimizer="momentum",
    lr=0.1,
    batch=10,
    data="mnist",
)
_WIDE = Workload(
    "mnist_mlp_100",
    sizes=(784, 100, 10),
    activation="relu",
    loss="softmax",
    optimizer="adam",
    lr=0.001,
    batch=64,
    data="mnist",
)
_LINEAR = Workload(
    "cifar_linear_hinge",
    sizes=(3072, 10),
    activation="",
    loss="hinge",
    optimizer="sgd",
    lr=0.001,
    batch=256,
    data="cifar10",
    l2=0.001,
)
_INPAINT = Workload(
    "inpaint_mlp",
    sizes=(784, 256, 784),
    activation="relu",
    loss="squared",
    optimizer="adam",
    lr=0.001,
    batch=128,
    data="damaged mnist",
)

WORKLOADS = {
    workload.name: workload
    for workload in [
        _TWENTY_LINE,
        _SMALL,
        replace(_SMALL, name="mnist_mlp_30_30_b128", batch=128),
        _WIDE,
        _LINEAR,
        replace(_LINEAR, name="cifar_linear_softmax", loss="softmax", lr=0.01),
        _INPAINT,
    ]
}


@dataclass(frozen=True)
class Problem:
    """A workload with its numbers: what a contestant is given.

    ``inputs`` (N, in) float32; ``targets`` (N,) int64 classes, or (N, out) float32;
    ``order`` (steps, batch) int64, the rows that each step picks (in a full batch:
    all of them, which nobody has to pick); ``weights`` W1 (in, out), b1 (out), W2 ...
    """

    workload: Workload
    inputs: np.ndarray
    targets: np.ndarray
    order: np.ndarray
    weights: list[np.ndarray]

    @property
    def one_hot(self) -> np.ndarray:
        """The classes as rows of 0 and 1."""
        return np.eye(self.workload.sizes[-1], dtype=np.float32)[self.targets]


def write_problem(
    workload: Workload, folder: Path, num_epochs: int = NUM_EPOCHS
) -> str:
    """Make the numbers of a workload; say in words which data they are."""
    inputs, targets, origin = _data(workload)
    rng = np.random.default_rng(1)
    if workload.is_full_batch:
        order = np.arange(workload.batch)[None].repeat(10_000, axis=0)
    else:
        order = _order(rng, len(inputs), workload.batch, num_epochs)
    arrays = {"inputs": inputs, "targets": targets, "order": order}
    for number, weight in enumerate(_first_weights(rng, workload)):
        arrays[f"weights{number}"] = weight
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "workload.json").write_text(json.dumps(asdict(workload)))
    return origin


def read_problem(folder: Path) -> Problem:
    """What ``write_problem`` wrote."""
    settings = json.loads((folder / "workload.json").read_text())
    workload = Workload(**settings | {"sizes": tuple(settings["sizes"])})
    num_weights = len(workload.layers) * (1 + workload.has_bias)
    return Problem(
        workload,
        *(np.load(folder / f"{name}.npy") for name in ("inputs", "targets", "order")),
        [np.load(folder / f"weights{number}.npy") for number in range(num_weights)],
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


def _first_weights(rng: np.random.Generator, workload: Workload) -> list[np.ndarray]:
    weights = []
    for num_in, num_out in workload.layers:
        w = rng.standard_normal((num_in, num_out), np.float32)
        if workload.data == "random":
            scale = 1.0  # as the lecture draws them
        elif len(workload.layers) == 1:
            scale = 0.001
        else:
            scale = ((2 if workload.activation == "relu" else 1) / num_in) ** 0.5
        weights.append(w * np.float32(scale))
        if workload.has_bias:
            weights.append(np.zeros(num_out, np.float32))
    return weights


# --------------------------------------------------------------------------- data


def _data(workload: Workload) -> tuple[np.ndarray, np.ndarray, str]:
    if workload.data == "random":
        rng = np.random.default_rng(0)
        x = rng.standard_normal((workload.batch, workload.sizes[0]), np.float32)
        y = rng.standard_normal((workload.batch, workload.sizes[-1]), np.float32)
        return x, y, "standard normal numbers"
    source = workload.data.removeprefix("damaged ")
    if os.environ.get("CHAINRULE_DATA_DIR"):
        pictures, labels = _real(source)
        origin = f"{NUM_EXAMPLES:,} pictures of {source}, scaled to 0..1"
    else:
        pictures, labels = _made_up(source)
        origin = f"{NUM_EXAMPLES:,} made-up pictures with the sparsity of {source}"
    inputs = pictures.reshape(NUM_EXAMPLES, -1)
    if source == workload.data:
        return inputs, labels, origin
    damaged = pictures.copy()
    damaged[:, 9:19, 9:19] = 0
    origin += ", the central 10×10 set to 0"
    return damaged.reshape(NUM_EXAMPLES, -1), inputs, origin


@cache
def _real(source: str) -> tuple[np.ndarray, np.ndarray]:
    import chainrule as cr  # reads the files; no contestant needs it for its data

    train = cr.data.load(source).train
    chosen = np.random.default_rng(0).permutation(len(train))[:NUM_EXAMPLES]
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
    labels = rng.integers(0, 10, NUM_EXAMPLES)
    classes = rng.random((10, *shape), np.float32)
    noise = rng.random((NUM_EXAMPLES, *shape), np.float32)
    pictures = (classes[labels] + noise) / 2
    if is_sparse:
        pictures[pictures < np.quantile(pictures, 0.8)] = 0
    return pictures, labels
