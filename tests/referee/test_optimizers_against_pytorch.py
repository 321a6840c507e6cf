"""Update rules beside those of torch.optim, from the same weights and gradients."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.optim import optimizer

torch = pytest.importorskip("torch", reason="the referee PyTorch is not installed")

# Ours, PyTorch's class, settings that both have, settings under PyTorch's names.
PAIRS = [
    ("sgd", "SGD", {}, {}),
    ("momentum", "SGD", {"momentum": 0.8}, {}),
    ("nesterov", "SGD", {"momentum": 0.8}, {"nesterov": True}),
    ("adagrad", "Adagrad", {}, {}),
    ("rmsprop", "RMSprop", {}, {}),
    ("rmsprop", "RMSprop", {"decay": 0.9}, {"alpha": 0.9}),
    ("adam", "Adam", {}, {}),
    ("adam", "Adam", {"beta1": 0.8, "beta2": 0.95}, {"betas": (0.8, 0.95)}),
    ("adamw", "AdamW", {}, {}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize(("name", "peer", "ours", "theirs"), PAIRS)
def test_fifty_steps_agree(name, peer, ours, theirs, weight_decay, dtype):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(6, 4)).astype(dtype)
    w = cr.Parameter(start)
    v = torch.nn.Parameter(torch.tensor(start))
    mine = optimizer(name, [("w", w)], lr=0.05, weight_decay=weight_decay, **ours)
    shared = {k: value for k, value in ours.items() if k == "momentum"} | theirs
    other = getattr(torch.optim, peer)(
        [v], lr=0.05, weight_decay=weight_decay, **shared
    )
    for _ in range(50):
        gradient = rng.normal(size=start.shape).astype(dtype)
        w.grad, v.grad = cr.Tensor(gradient), torch.tensor(gradient)
        mine.step()
        other.step()
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(w.data, v.detach().numpy(), rtol=0, atol=tolerance)
