"""One update of the weights as a function of tensors: run, compiled, or many at once.

What an update does is written once. Eagerly, Python looks at the loss and the norm of
the gradient and goes on if they are finite. Compiled, nobody looks: an update that is
not to be made is undone inside the graph, where every variable keeps what it held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from chainrule.compiler import compile, execution
from chainrule.compiler.host import host_target
from chainrule.core.capture import undo_unless
from chainrule.core.graph import Buffer, Tensor, as_tensor, assign, no_grad
from chainrule.core.spec import FLOAT32, FLOAT64
from chainrule.core.threads import num_threads
from chainrule.errors import CaptureError, counted
from chainrule.nn import Module
from chainrule.ops import where
from chainrule.optim import MovingAverage, Optimizer, clip_by_norm, global_norm
from chainrule.training.finiteness import gradient_norm
from chainrule.training.recipe import Recipe

__all__ = ["Outcome", "Part", "Update"]

Array = np.ndarray[Any, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
Score = Callable[[Tensor, Tensor], Tensor]


class Part(NamedTuple):
    """A minibatch of an update, as arrays.

    Args:
        share: of the minibatch in the update, 0-d; None for all of it.
        others: targets of the examples that were mixed into the inputs, if any.
        weight: of ``targets`` beside ``others``, 0-d.
    """

    inputs: Any
    targets: Any
    share: Any = None
    others: Any = None
    weight: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an update found: its loss, ‖dw‖, and the score of each minibatch."""

    loss: float
    gradient_norm: float
    scores: Sequence[float]
    is_made: bool
    """False where loss or gradient are not finite: then nothing has changed."""


class Update:
    """Forward, penalty, backward, a check that all is finite, clipping, the optimizer.

    It runs as native code unless ``chainrule.compiler.execution`` names a reason not
    to, or the model looks at values while it runs, which cannot be captured.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        recipe: Recipe,
        average: MovingAverage | None = None,
        score: Score | None = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.recipe = recipe
        self.average = average
        self.score = score
        self.parameters = [p for _, p in model.named_parameters() if p.requires_grad]
        _, _, reason = execution().partition("(")
        self.obstacle = reason.rstrip(")")
        """Why updates run in NumPy; empty for native code."""
        self._halted = Buffer(False, name="halted")
        """Whether an update was not made: those after it in the same call neither."""
        self._state = [optimizer.lr, *(b for _, b in model.named_buffers())]
        """What changes before an update is found to be bad."""
        self._native = compile(self._guarded)
        self._native_rows = compile(self._guarded_rows)

    @property
    def is_native(self) -> bool:
        """Whether updates run as native code, as far as is known."""
        return not self.obstacle

    @property
    def execution(self) -> str:
        """What updates run on, in words: ``native code (avx512), 2 threads``."""
        if self.obstacle:
            return f"NumPy ({self.obstacle})"
        threads = counted(num_threads(), "thread")
        return f"native code ({host_target().name}), {threads}"

    def __call__(self, lr: float, parts: Sequence[Part]) -> Outcome:
        """Make one update."""
        self.optimizer.set_lr(lr)
        if self.is_native:
            assign(self._halted, False)
            try:
                found = self._native(as_tensor(lr, FLOAT64), tuple(parts))
            except CaptureError as error:
                self._give_up(error)
            else:
                loss, norm, is_made, scores = found
                return Outcome(
                    float(loss.data),
                    float(norm.data),
                    [float(s.data) for s in scores],
                    bool(is_made.data),
                )
        return self._in_numpy(lr, parts)

    def many(
        self,
        lrs: Sequence[float],
        rows: Sequence[Array],
        inputs: Array,
        targets: Array,
    ) -> list[Outcome] | None:
        """Make an update for each learning rate, all in one native call.

        After an update that is not made, none is. None, with nothing changed, if the
        model cannot be captured.

        Shapes: rows two of (k, n): where examples stand in inputs and in targets.
        """
        rates = np.asarray(lrs, np.float64)
        for lr in rates[~((rates >= 0) & (rates < math.inf))]:
            self.optimizer.set_lr(float(lr))  # which raises
        assign(self._halted, False)
        steps = (rates, *rows)
        try:
            found = self._native_rows.scan(steps, inputs, targets)
        except CaptureError as error:
            self._give_up(error)
            return None
        losses, norms, are_made, scores = (
            found[0].data.tolist(),
            found[1].data.tolist(),
            found[2].data.tolist(),
            [s.data.tolist() for s in found[3]],
        )
        each = zip(*scores, strict=True) if scores else [()] * len(losses)
        return list(map(Outcome, losses, norms, each, are_made))

    def loss_of(self, part: Part) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, times its share in the update, and the outputs."""
        outputs = self.model(as_tensor(part.inputs))
        loss = self.loss(outputs, as_tensor(part.targets))
        if part.others is not None:
            weight = as_tensor(part.weight).astype(loss.dtype)
            other = self.loss(outputs, as_tensor(part.others))
            loss = loss * weight + other * (1 - weight)
        if self.recipe.penalty is not None:
            loss = loss + self.recipe.penalty()
        if part.share is not None:
            loss = loss * as_tensor(part.share).astype(loss.dtype)
        return loss, outputs

    # The same update, with and without a look at its numbers.

    def _gradients(self, lr: Any, parts: Sequence[Part]) -> tuple[Tensor, list[Tensor]]:
        """Leave the gradients in the parameters; the loss, and the parts' scores."""
        assign(self.optimizer.lr, lr)
        losses, scores = [], []
        for part in parts:
            loss, outputs = self.loss_of(part)
            loss.backward()
            losses.append(loss.detach())
            if self.score is not None:
                with no_grad():
                    scores.append(self.score(outputs, as_tensor(part.targets)))
        return sum(losses[1:], start=losses[0]), scores

    def _move(self) -> None:
        """Change the weights by their gradients, and forget those."""
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update()

    def _in_numpy(self, lr: float, parts: Sequence[Part]) -> Outcome:
        before = [(b, b.numpy()) for b in self._state]
        loss, scores = self._gradients(lr, parts)
        norm = gradient_norm(self.parameters)
        value = float(loss.data)
        is_made = math.isfinite(value) and math.isfinite(norm)
        if is_made:
            if self.recipe.clip_norm is not None:
                clip_by_norm(self.parameters, self.recipe.clip_norm)
            self._move()
        else:
            for variable, array in before:
                assign(variable, array)
        return Outcome(value, norm, [float(s.data) for s in scores], is_made)

    def _guarded(
        self, lr: Tensor, parts: Sequence[Part]
    ) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """What is captured: the update, undone unless all of it is finite."""
        loss, scores = self._gradients(lr, parts)
        limit = self.recipe.clip_norm
        norm = (
            global_norm(self.parameters)
            if limit is None
            else clip_by_norm(self.parameters, limit)
        )
        is_finite = (abs(loss) < math.inf) & (abs(norm) < math.inf)
        is_made = is_finite & ~self._halted
        with no_grad():
            for p in self.parameters:
                if p.grad is not None:
                    # So all that the optimizer does waits for the norm: one pass over
                    # weights and slots, in place, instead of copies to choose from.
                    p.grad = where(is_made, p.grad, 0.0)
        self._move()
        undo_unless(is_made)
        assign(self._halted, ~is_made)
        return loss, norm, is_made, scores

    def _guarded_rows(
        self, lr: Tensor, places: Tensor, rows: Tensor, inputs: Tensor, targets: Tensor
    ) -> Any:
        """The same, for examples that are still to be picked."""
        x = inputs[places]
        x = x if x.dtype == np.uint8 else x.astype(FLOAT32)
        return self._guarded(lr, (Part(x, targets[rows]),))

    def _give_up(self, error: CaptureError) -> None:
        """Go on in NumPy: the model does what cannot be captured."""
        self.obstacle = error.what
