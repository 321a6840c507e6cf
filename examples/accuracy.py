"""How well the lectures' models do on MNIST and CIFAR-10, beside what is asked of them.

Takes some minutes, so no test runs it. The data are looked for as ``chainrule train
mnist`` does: in the folder that CHAINRULE_DATA_DIR names. The table it printed last is
in docs/results.md.
"""

from __future__ import annotations

import time

import numpy as np

import chainrule as cr

WIDE = {"hidden": (512,), "dropout": 0.2}
SVM = {"model": "linear", "loss": "svm"}
TRAINED = [
    ("MNIST 784-100-10", "mnist", {"hidden": (100,)}, "≥ 97.5 %"),
    ("MNIST 784-512-10, dropout 0.2", "mnist", WIDE, "≥ 98.3 %"),
    ("CIFAR-10 linear, softmax", "cifar10", {"model": "linear"}, "≥ 40 %"),
    ("CIFAR-10 linear, SVM", "cifar10", SVM, "≥ 38.5 %"),
]


def trained(source: str, options: dict[str, object]) -> float:
    """Test accuracy of a model trained with chainrule's defaults apart from these."""
    splits = cr.data.load(source, seed=0)
    model = cr.fit(splits.train, validation=splits.validation, seed=0, **options)
    return cr.evaluate(model, splits.test)["accuracy"]


def searched(num_draws: int = 1000) -> float:
    """Test accuracy of the best of 1000 random linear classifiers (intellivision)."""
    splits = cr.data.load("cifar10", validation=0.0, seed=0)
    parts = [
        (d.read(np.arange(len(d))).reshape(len(d), -1).astype(np.float32), d.targets)
        for d in (splits.train, splits.test)
    ]
    mean_image = parts[0][0].mean(axis=0)
    # Units of 0 to 255, the mean training image subtracted, and a 1 for the bias.
    (x, y), (x_test, y_test) = (
        (np.hstack([x - mean_image, np.ones((len(x), 1), np.float32)]), y)
        for x, y in parts
    )

    def draw(rng: np.random.Generator) -> np.ndarray:
        return rng.normal(size=(10, 3073)).astype(np.float32) * 1e-4

    def loss(w: np.ndarray) -> cr.Tensor:
        return cr.nn.multiclass_hinge(x @ w.T, y)

    found = cr.optim.random_search(loss, draw, num_draws)
    print(f"  losses from {found.losses.min():.2f} to {found.losses.max():.2f}")
    return cr.training.metrics.accuracy(x_test @ found.best.T, y_test)


def main() -> None:
    rows = [
        (name, wanted, lambda s=source, o=options: trained(s, o))
        for name, source, options, wanted in TRAINED
    ]
    rows.append(("CIFAR-10 random search, 1000 draws", "14-17 %", searched))
    print(f"{'model':<36}{'wanted':>10}{'test accuracy':>16}{'time':>10}")
    for name, wanted, measure in rows:
        began = time.perf_counter()
        accuracy = measure()
        time_s = time.perf_counter() - began
        print(f"{name:<36}{wanted:>10}{accuracy:>15.2%}{time_s:>8.0f} s", flush=True)


if __name__ == "__main__":
    main()
