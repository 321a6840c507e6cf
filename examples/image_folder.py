"""From a folder of pictures to a report: what ``chainrule train FOLDER`` does."""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import chainrule as cr

with tempfile.TemporaryDirectory() as temporary:
    # A folder as you may have one: a sub-folder for each class, pictures inside.
    photos = Path(temporary) / "photos"
    digits = cr.data.load("digits").train
    for number in range(400):
        label = digits.class_names[digits.targets[number]]
        (photos / label).mkdir(parents=True, exist_ok=True)
        pixels = digits.read(np.array([number]))[0, :, :, 0]
        Image.fromarray(pixels).resize((16, 16)).save(photos / label / f"{number}.png")

    settings = cr.Settings(
        data=str(photos),
        hidden=(64,),
        epochs=15,
        augment="shift:1",
        out=str(Path(temporary) / "run"),
    )
    run = cr.train(settings)
    print(sorted(file.name for file in run.folder.iterdir()))
    print(f"accuracy on {run.results['num_examples']} test pictures:", end=" ")
    print(round(run.results["accuracy"], 3))

    prediction = cr.load(run.folder).predict(next((photos / "3").iterdir()))
    print("a picture of a 3:", prediction.classes[:2])
    print("the same from a shell:", run.settings.command().replace(temporary, "."))
