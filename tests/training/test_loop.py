"""The trainer itself, on data small enough to follow."""

import numpy as np
import pytest

from chainrule import nn, optim
from chainrule.core.graph import Tensor
from chainrule.data import Loader, arrays
from chainrule.errors import NonFiniteError, OptionError
from chainrule.training import Monitor, Recipe, StepFinished, Trainer


class Broken(nn.Module):
    """NaN for the batch that holds a 3."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (np.nan if (x.data == 3).any() else 0.0)


def trainer(layer: nn.Module, epochs: int = 2, **options) -> Trainer:
    inputs = np.array([[0.0], [1.0], [2.0], [3.0]], np.float32)
    data = arrays(inputs, [0.0, 1.0, 2.0, 3.0], task="regress")
    model = nn.Sequential(layer=layer, out=nn.Dense(1, 1)).initialize(0)
    recipe = Recipe(epochs=epochs, accumulate=options.pop("accumulate", 1))
    return Trainer(
        model,
        nn.squared_error,
        optim.optimizer("sgd", model.named_parameters()),
        Loader(data, 1, shuffle=False),
        recipe=recipe,
        schedule=optim.schedule("constant", lr=0.01, epochs=epochs),
        **options,
    )


def test_the_bad_layer_is_named_whichever_minibatch_of_an_update_met_it():
    with pytest.raises(NonFiniteError) as caught:
        trainer(Broken(), accumulate=4).run()
    assert str(caught.value).splitlines()[0] == (
        "training stopped before step 1: the output of layer 'layer' (Broken)"
    )


def test_an_interrupted_trainer_can_go_on():
    seen: list[int] = []

    def listen(event):
        if isinstance(event, StepFinished):
            seen.append(event.step)
            if event.step == 3:
                ours._interrupted.set()

    ours = trainer(nn.Identity(), listeners=[listen])
    assert ours.run() == "interrupted"
    assert seen == [1, 2, 3]
    assert ours.run() == "epochs"
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_score_to_monitor_that_nobody_gives_is_told():
    with pytest.raises(OptionError, match="unknown score to monitor 'acuracy'"):
        trainer(nn.Identity(), monitor=Monitor("acuracy")).run()
