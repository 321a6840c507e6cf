from __future__ import annotations

import numpy as np
import pytest

from chainrule import nn
from chainrule.errors import OptionError


def model() -> nn.Module:
    return nn.mlp(4, (3,), 2).initialize(0).astype("float64")


def weights(net: nn.Module) -> list[np.ndarray]:
    return [p.data for path, p in net.named_parameters() if path.endswith("weight")]


def test_penalties_are_sums_over_weights_without_biases() -> None:
    net = model()
    net["output"].bias.data += 100.0
    squares = sum((w**2).sum() for w in weights(net))
    sizes = sum(abs(w).sum() for w in weights(net))
    assert nn.l2_penalty(net, 0.1).item() == pytest.approx(0.1 * squares)
    assert nn.l1_penalty(net, 0.1).item() == pytest.approx(0.1 * sizes)
    assert nn.elastic_net(net, 0.1, beta=0.5).item() == pytest.approx(
        0.1 * (0.5 * squares + sizes)
    )
    assert nn.penalty(net, l2=0.3, l1=0.2).item() == pytest.approx(
        0.3 * squares + 0.2 * sizes
    )


def test_no_penalty_is_the_number_zero() -> None:
    assert nn.penalty(model()) == 0
    assert nn.penalty(nn.ReLU(), l2=1.0, l1=1.0) == 0


def test_the_gradient_of_l1_is_the_sign() -> None:
    net = model()
    nn.l1_penalty(net, 0.1).backward()
    gradient = net["output"].weight.grad.data
    np.testing.assert_allclose(gradient, 0.1 * np.sign(weights(net)[1]))
    assert net["output"].bias.grad is None


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_strengths_are_numbers_from_zero_on(strength: float) -> None:
    for call in (
        lambda: nn.penalty(model(), l2=strength),
        lambda: nn.penalty(model(), l1=strength),
        lambda: nn.l2_penalty(model(), strength),
        lambda: nn.l1_penalty(model(), strength),
    ):
        with pytest.raises(OptionError, match="out of range"):
            call()
    with pytest.raises(OptionError, match="no examples"):
        nn.l2_penalty(model(), 1.0, num_examples=0)
