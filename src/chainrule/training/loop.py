"""The training loop: minibatches in, better weights out, events to whoever listens."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.rng import generator
from chainrule.data import Batch, Loader
from chainrule.errors import CheckpointError, NonFiniteError, OptionError
from chainrule.nn import Module
from chainrule.optim import MovingAverage, Optimizer, Schedule, clip_by_norm
from chainrule.training.checkpoint import Checkpoint
from chainrule.training.events import (
    CheckpointSaved,
    EpochFinished,
    Event,
    Listener,
    StepFinished,
    TrainingFinished,
    TrainingStarted,
)
from chainrule.training.finiteness import gradient_norm, locate
from chainrule.training.log import MetricsLog

__all__ = ["Monitor", "Recipe", "Trainer"]

Array = np.ndarray[Any, Any]
Loss = Callable[[Tensor, Tensor], Tensor]


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


@dataclass
class Progress:
    """Where the loop stands, apart from what arrays hold: all of it is checkpointed."""

    epoch: int = 1
    step: int = 0
    batches_done: int = 0
    """Minibatches of the current epoch that are already trained on."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of the current epoch, weighted by examples; "examples" counts them."""
    best_merit: list[float] | None = None
    best_epoch: int = 0
    log_position: int = 0
    elapsed_s: float = 0.0
    reason: str = ""


class Trainer:
    """Trains a model; can be stopped anywhere and goes on with the same bits.

    One update: draw a minibatch, run forward, add the penalty, run backward, check that
    everything is finite, clip, step the optimizer. After each epoch the validation set
    is scored; the best weights are kept and, at the end, restored.

    Args:
        model: what is trained.
        loss: of the model's output and the targets: a scalar Tensor.
        optimizer: over the model's parameters.
        loader: minibatches whose order depends on (seed, epoch) alone.
        validate: scores of the model as it stands; ``monitor`` names the decisive one.
        score: a number for a minibatch's outputs and targets, averaged over an epoch
            beside the loss, with its name.
        checkpoint: where to save after every epoch and every ``checkpoint_every_s``.

    Raises:
        NonFiniteError: from ``run``, if loss or gradients are NaN or infinite; the
            weights are those before that update, and are saved.
    """

    def __init__(
        self,
        model: Module,
        loss: Loss,
        optimizer: Optimizer,
        loader: Loader,
        *,
        recipe: Recipe,
        schedule: Schedule,
        validate: Callable[[], Mapping[str, float]] | None = None,
        score: tuple[str, Callable[[Array, Array], float]] | None = None,
        monitor: Monitor | None = None,
        average: MovingAverage | None = None,
        listeners: Sequence[Listener] = (),
        log: MetricsLog | None = None,
        checkpoint: Path | None = None,
        checkpoint_every_s: float = 60.0,
    ) -> None:
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.loader = loader
        self.recipe = recipe
        self.schedule = schedule
        self.validate = validate
        self.score = score
        self.monitor = monitor or Monitor()
        self.average = average
        self.listeners = list(listeners)
        self.log = log
        self.checkpoint = checkpoint
        self.checkpoint_every_s = checkpoint_every_s
        self.progress = Progress()
        self.best: dict[str, Array] = {}
        self._parameters = [p for _, p in model.named_parameters() if p.requires_grad]
        self._interrupted = threading.Event()

    # The loop.

    def run(self) -> str:
        """Train to the end, an early stop or Ctrl-C; the reason is returned.

        The model is left with the best weights, unless it was interrupted.
        """
        began = time.perf_counter() - self.progress.elapsed_s
        progress = self.progress
        if progress.reason != "early stopping":  # which a resumed run must not undo
            progress.reason = ""
        self._interrupted.clear()
        self._emit(
            TrainingStarted(
                epoch=progress.epoch,
                step=progress.step,
                num_epochs=self.recipe.epochs,
                steps_per_epoch=math.ceil(len(self.loader) / self.recipe.accumulate),
                num_examples=len(self.loader.dataset),
                num_parameters=sum(p.size for p in self._parameters),
            )
        )
        with _sigint_sets(self._interrupted), np.errstate(all="ignore"):
            if not progress.step:
                self.save()
            while not progress.reason and progress.epoch <= self.recipe.epochs:
                self._train_epoch(began)
            progress.reason = progress.reason or "epochs"
            progress.elapsed_s = time.perf_counter() - began
            self.save()
        if progress.reason != "interrupted" and self.best:
            self.model.load_state(self.best)
        self._emit(
            TrainingFinished(
                epoch=progress.epoch,
                step=progress.step,
                best_epoch=progress.best_epoch,
                reason=progress.reason,
                time_s=progress.elapsed_s,
            )
        )
        return progress.reason

    def _train_epoch(self, began: float) -> None:
        progress = self.progress
        self.model.train()
        last_save = time.perf_counter()
        batches = self.loader.epoch(progress.epoch, start_step=progress.batches_done)
        with closing(batches):  # which ends the thread that reads ahead
            while group := list(islice(batches, self.recipe.accumulate)):
                self._update(group)
                progress.batches_done += len(group)
                if self._interrupted.is_set():
                    progress.reason = "interrupted"
                    return
                if time.perf_counter() - last_save >= self.checkpoint_every_s:
                    progress.elapsed_s = time.perf_counter() - began
                    self.save()
                    last_save = time.perf_counter()
        self._finish_epoch(began)

    def _update(self, group: Sequence[Batch]) -> None:
        """One update of the weights from one or more minibatches."""
        progress = self.progress
        began = time.perf_counter()
        lr = self.schedule.lr_at(progress.step, self._epochs_done())
        self.optimizer.set_lr(lr)
        count = sum(len(batch.indices) for batch in group)
        loss = 0.0
        for batch in group:
            part, value = self._loss_of(batch, len(batch.indices) / count)
            loss += float(part.data)
            if math.isfinite(loss):
                part.backward()
            if self.score is not None:
                name, score = self.score
                self._count(name, score(value.data, batch.targets), len(batch.indices))
        norm = gradient_norm(self._parameters) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            self._stop_before_update(group, loss)
        if self.recipe.clip_norm is not None:
            clip_by_norm(self._parameters, self.recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update()
        progress.step += 1
        self._count("loss", loss, count)
        progress.sums["examples"] = progress.sums.get("examples", 0) + count
        step = StepFinished(
            epoch=progress.epoch,
            step=progress.step,
            loss=loss,
            lr=lr,
            gradient_norm=norm,
            num_examples=count,
            time_s=time.perf_counter() - began,
        )
        if self.log is not None:
            self.log.append(
                {
                    "event": "step",
                    "epoch": step.epoch,
                    "step": step.step,
                    "loss": loss,
                    "lr": lr,
                    "gradient_norm": norm,
                }
            )
        self._emit(step)

    def _loss_of(self, batch: Batch, share: float) -> tuple[Tensor, Tensor]:
        """The loss of a minibatch, times its share in the update, and the outputs."""
        inputs, targets = batch.inputs, as_tensor(batch.targets)
        if self.recipe.mixup:
            # An epoch shows an example once, so its first one names a minibatch.
            stream = f"mixup:{self.progress.epoch}"
            rng = generator(self.recipe.seed, stream, int(batch.indices[0]))
            weight = float(rng.beta(self.recipe.mixup, self.recipe.mixup))
            partner = rng.permutation(len(inputs))
            own = inputs.astype(np.float32)
            mixed = np.float32(weight) * own + np.float32(1 - weight) * own[partner]
            outputs = self.model(as_tensor(mixed))
            others = as_tensor(batch.targets[partner])
            loss = self.loss(outputs, targets) * weight
            loss = loss + self.loss(outputs, others) * (1 - weight)
        else:
            outputs = self.model(as_tensor(inputs))
            loss = self.loss(outputs, targets)
        if self.recipe.penalty is not None:
            loss = loss + self.recipe.penalty()
        return (loss if share == 1 else loss * share), outputs

    def _epochs_done(self) -> float:
        """Epochs trained so far, with the fraction of the current one."""
        return self.progress.epoch - 1 + self.progress.batches_done / len(self.loader)

    def _count(self, name: str, value: float, weight: int) -> None:
        self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value * weight

    def _stop_before_update(self, group: Sequence[Batch], loss: float) -> None:
        """Keep the last good weights and raise NonFiniteError, naming the layer."""

        def repeated() -> Tensor:
            losses = (self._loss_of(batch, 1 / len(group))[0] for batch in group)
            return sum(losses, start=as_tensor(0.0))

        where = locate(self.model, repeated)
        self.optimizer.zero_grad()
        self.save()
        kept = f"; the weights of step {self.progress.step} are in {self.checkpoint}"
        raise NonFiniteError(
            f"training stopped before step {self.progress.step + 1}: {where}",
            got=f"loss {loss}" if not math.isfinite(loss) else "a gradient not finite",
            expected="finite numbers" + (kept if self.checkpoint else ""),
            hint="a smaller lr, clip_norm=1.0, or check the data's scale",
        )

    def _finish_epoch(self, began: float) -> None:
        """Score the validation set, keep the best weights, report, save."""
        progress = self.progress
        count = progress.sums.pop("examples", 0)
        training = {k: v / count for k, v in progress.sums.items()} if count else {}
        weights = self.average.applied() if self.average else nullcontext()
        with weights:
            validation = self._validation_scores()
            merit = self.monitor.merit(validation or training)
            is_best = self.monitor.is_better(merit, progress.best_merit)
            if is_best:
                self.best = self.model.state()
        if is_best:
            progress.best_merit, progress.best_epoch = merit, progress.epoch
        self.schedule.observe(merit[0])
        progress.elapsed_s = time.perf_counter() - began
        epoch = EpochFinished(
            epoch=progress.epoch,
            step=progress.step,
            training=training,
            validation=validation,
            is_best=is_best,
            time_s=progress.elapsed_s,
        )
        if self.log is not None:
            self.log.append({"event": "epoch", **vars(epoch)})
        patience = self.monitor.patience
        if patience is not None and progress.epoch - progress.best_epoch >= patience:
            progress.reason = "early stopping"
        progress.epoch += 1
        progress.batches_done = 0
        progress.sums = {}
        self.save()
        self._emit(epoch)

    def _validation_scores(self) -> dict[str, float]:
        if self.validate is None:
            return {}
        self.model.eval()
        scores = dict(self.validate())
        self.model.train()
        return scores

    def _emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    # Saving and going on.

    def save(self) -> None:
        """Write a checkpoint, if there is a place for one, and tell the listeners."""
        if self.checkpoint is None:
            return
        if self.log is not None:
            self.progress.log_position = self.log.sync()
        sections = {
            "model": self.model.state(),
            "optimizer": self.optimizer.state(),
            "best": self.best,
        }
        if self.average is not None:
            sections["average"] = self.average.state()
        progress = {**vars(self.progress), "schedule": self.schedule.state()}
        Checkpoint(sections, progress).save(self.checkpoint)
        self._emit(
            CheckpointSaved(
                self.progress.epoch, self.progress.step, str(self.checkpoint)
            )
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take up where a checkpoint left off.

        Raises CheckpointError if its arrays do not fit the model or the optimizer.
        """
        progress = dict(checkpoint.progress)
        sections = checkpoint.sections
        try:
            schedule = progress.pop("schedule")
            model, optimizer = sections["model"], sections["optimizer"]
            restored = Progress(**progress)
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                "the checkpoint does not say where training stood",
                got=error,
                expected="what this version of chainrule writes",
            ) from None
        self.schedule.load_state(schedule)
        self.model.load_state(model)
        self.optimizer.load_state(optimizer)
        if self.average is not None:
            self.average.load_state(checkpoint.sections.get("average", {}))
        self.best = checkpoint.sections.get("best", {})
        self.progress = restored


@contextmanager
def _sigint_sets(flag: threading.Event) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) asks the loop to stop, a second breaks it off."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def ask(number: int, frame: Any) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
