"""Train on the built-in digits, look at scores while it happens, save and predict."""

import tempfile
from pathlib import Path

import numpy as np

import chainrule as cr
from chainrule.training import EpochFinished


def show(event):
    """A listener: any function of training events."""
    if isinstance(event, EpochFinished) and event.epoch % 5 == 0:
        score, star = event.validation["accuracy"], "*" * event.is_best
        print(f"epoch {event.epoch:2}: validation accuracy {score:.3f} {star}")


digits = cr.data.load("digits")
model = cr.fit(
    digits.train,
    validation=digits.validation,
    hidden=(64,),
    epochs=20,
    listeners=[show],
)
print(model.model.summary((8, 8, 1)))
print("test accuracy:", round(cr.evaluate(model, digits.test)["accuracy"], 3))

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "model.safetensors"
    model.save(file)  # weights, preprocessing and names: all that prediction needs
    picture = digits.test.read(np.array([0]))[0]
    name, probability = cr.load(file).predict(picture).classes[0]
print(f"the first test digit: {name} with probability {probability:.2f}")
