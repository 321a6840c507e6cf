"""Inputs made for units of MNIST networks, against the best of all test pictures.

Three networks, from three seeds, learn 12,000 pictures for two epochs. For the 10
class scores and for 10 channels of two layers a picture is made within 0 to 255, and
its value compared with the largest that any of the 10,000 test pictures gives.

    python benchmarks/feature_visualisation.py [--pictures FOLDER]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

import chainrule as cr
from chainrule.explanation.features import visualise

LAYERS = ("network.output", "network.last.activation", "network.stage2.activation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="where to write what was made")
    folder = parser.parse_args().pictures
    splits = cr.data.load("mnist", seed=0)
    seen = splits.train.subset(np.arange(12_000))
    neutral = seen.read(np.arange(1000)).mean(axis=0)
    print(f"{'seed':>4}  {'layer':<28}{'beyond':>6}  {'least gain':>10}  {'time':>6}")
    for seed in range(3):
        model = cr.fit(seen, model="cnn", epochs=2, seed=seed)
        for path in LAYERS:
            began = time.perf_counter()
            found = visualise(
                model.model, path, (28, 28, 1), range(10),
                neutral=neutral, examples=splits.test, seed=seed,
            )  # fmt: skip
            time_s = time.perf_counter() - began
            assert found.pictures.min() >= 0
            assert found.pictures.max() <= 255
            gain = min(np.array(found.values) / np.array(found.best))
            beyond = f"{found.num_beyond}/10"
            print(f"{seed:>4}  {path:<28}{beyond:>6}  {gain:>9.2f}×  {time_s:>4.1f} s")
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
                found.save(folder / f"seed{seed}-{path}.png")


if __name__ == "__main__":
    main()
