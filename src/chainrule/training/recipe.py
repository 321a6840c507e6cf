"""How training goes about it, and what decides which weights are the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from chainrule.core.graph import Tensor
from chainrule.errors import OptionError

__all__ = ["Monitor", "Recipe"]


@dataclass(frozen=True)
class Monitor:
    """Which validation score decides what the best weights are, and when to stop.

    Of equal scores, which accuracies on small sets often are, the one with the lower
    loss is better. ``patience`` counts epochs without a better one; None never stops.

    Raises:
        OptionError: after an epoch, if there is no score of that name.
    """

    name: str = "loss"
    higher_is_better: bool = False
    patience: int | None = None

    def merit(self, scores: Mapping[str, float]) -> list[float]:
        """What is compared: the score, then the loss, both so that higher is better."""
        if self.name not in scores:
            raise OptionError.unknown("score to monitor", self.name, scores)
        score, loss = scores[self.name], scores.get("loss", 0.0)
        return [score if self.higher_is_better else -score, -loss]

    def is_better(self, merit: list[float], best: list[float] | None) -> bool:
        """Whether a merit beats the best so far; NaN never does."""
        if any(math.isnan(m) for m in merit):
            return False
        return best is None or merit > best


@dataclass(frozen=True)
class Recipe:
    """How the loop goes about it, apart from model, loss, data and optimizer.

    Args:
        epochs: passes over the training data.
        accumulate: minibatches whose gradients are averaged for one update.
        clip_norm: the largest norm that the gradient of all parameters may have.
        mixup: α of the Beta distribution from which pairs of examples are mixed; 0 off.
            Source: Zhang et al., "mixup: beyond empirical risk minimization", 2018.
        penalty: what is added to the loss, a function of the weights.
        seed: of everything the loop draws.
    """

    epochs: int = 10
    accumulate: int = 1
    clip_norm: float | None = None
    mixup: float = 0.0
    penalty: Callable[[], Tensor] | None = None
    seed: int = 0
