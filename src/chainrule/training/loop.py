"""The training loop: minibatches in, better weights out, events to whoever listens."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chainrule.core.graph import Tensor, as_tensor
from chainrule.core.rng import generator
from chainrule.core.spec import FLOAT32, FLOAT64
from chainrule.data import Batch, Loader
from chainrule.errors import CheckpointError, NonFiniteError
from chainrule.nn import Module
from chainrule.optim import MovingAverage, Optimizer, Schedule
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
from chainrule.training.finiteness import locate
from chainrule.training.log import MetricsLog
from chainrule.training.recipe import Monitor, Recipe
from chainrule.training.update import Loss, Outcome, Part, Score, Update

__all__ = ["Trainer"]

Array = np.ndarray[Any, Any]

_BLOCK_S = 0.05
"""How long the updates of one native call take: events and Ctrl-C wait for its end."""


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


class _Made(NamedTuple):
    """An update that was made, or tried."""

    outcome: Outcome
    lr: float
    counts: list[int]
    """The examples of each of its minibatches."""
    time_s: float


class Trainer:
    """Trains a model; can be stopped anywhere and goes on with the same bits.

    One update: draw a minibatch, run forward, add the penalty, run backward, check that
    everything is finite, clip, step the optimizer. After each epoch the validation set
    is scored; the best weights are kept and, at the end, restored.

    Updates run as native code where they can. Where the data lie in memory as they are,
    a native call makes many updates; events, checkpoints and Ctrl-C wait for its end.

    Args:
        model: what is trained.
        loss: of the model's output and the targets: a scalar Tensor.
        optimizer: over the model's parameters.
        loader: minibatches whose order depends on (seed, epoch) alone.
        validate: scores of the model as it stands; ``monitor`` names the decisive one.
        score: a number for a minibatch's outputs and targets, a 0-d tensor, averaged
            over an epoch beside the loss, with its name.
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
        score: tuple[str, Score] | None = None,
        monitor: Monitor | None = None,
        average: MovingAverage | None = None,
        listeners: Sequence[Listener] = (),
        log: MetricsLog | None = None,
        checkpoint: Path | None = None,
        checkpoint_every_s: float = 60.0,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.loader = loader
        self.recipe = recipe
        self.schedule = schedule
        self.validate = validate
        self.monitor = monitor or Monitor()
        self.average = average
        self.listeners = list(listeners)
        self.log = log
        self.checkpoint = checkpoint
        self.checkpoint_every_s = checkpoint_every_s
        self.progress = Progress()
        self.best: dict[str, Array] = {}
        self.update = Update(
            model, loss, optimizer, recipe, average, score[1] if score else None
        )
        self._score_name = score[0] if score else ""
        self._block_size = 1
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
                num_parameters=sum(p.size for p in self.update.parameters),
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
        with closing(self._updates()) as updates:
            for made in updates:
                self._take_note(made)
                if self._interrupted.is_set():
                    progress.reason = "interrupted"
                    return
                if time.perf_counter() - last_save >= self.checkpoint_every_s:
                    progress.elapsed_s = time.perf_counter() - began
                    self.save()
                    last_save = time.perf_counter()
        self._finish_epoch(began)

    # The updates of an epoch.

    def _updates(self) -> Generator[list[_Made], None, None]:
        """Make the epoch's remaining updates, as many at a time as the data allow."""
        yield from self._blocks()
        if self.progress.batches_done < len(self.loader):
            yield from self._one_by_one()

    def _blocks(self) -> Generator[list[_Made], None, None]:
        """Many updates a call, the minibatches picked by native code.

        Ends early, without an update, where minibatches have to be made one by one.
        """
        loader, progress = self.loader, self.progress
        inputs, size = loader.dataset.inputs, loader.batch_size
        is_plain = loader.augment is None and not self.recipe.mixup
        if not is_plain or self.recipe.accumulate > 1:
            return
        if inputs is None or not _can_be_picked(inputs):
            return
        order = loader.order(progress.epoch)
        places = loader.dataset.places(order)
        num_whole = len(order) // size
        while self.update.is_native and progress.batches_done < len(loader):
            first = progress.batches_done
            count = min(self._block_size, max(1, num_whole - first))
            part = slice(first * size, (first + count) * size)
            rows = [found[part].reshape(count, -1) for found in (places, order)]
            lrs = [self._lr_after(i) for i in range(count)]
            began = time.perf_counter()
            outcomes = self.update.many(lrs, rows, inputs, loader.dataset.targets)
            if outcomes is None:
                return
            time_s = (time.perf_counter() - began) / count
            if count == self._block_size:  # an epoch's last call says little
                self._block_size = max(1, min(4 * count, int(_BLOCK_S / time_s)))
            sizes = [rows[0].shape[1]]
            yield [
                _Made(outcome, lr, sizes, time_s)
                for outcome, lr in zip(outcomes, lrs, strict=True)
            ]

    def _one_by_one(self) -> Generator[list[_Made], None, None]:
        progress = self.progress
        batches = self.loader.epoch(progress.epoch, start_step=progress.batches_done)
        with closing(batches):  # which ends the thread that reads ahead
            while group := list(islice(batches, self.recipe.accumulate)):
                began = time.perf_counter()
                lr = self._lr_after(0)
                outcome = self.update(lr, self._parts(group))
                counts = [len(batch.indices) for batch in group]
                yield [_Made(outcome, lr, counts, time.perf_counter() - began)]

    def _parts(self, group: Sequence[Batch]) -> list[Part]:
        count = sum(len(batch.indices) for batch in group)
        return [self._part(batch, len(batch.indices) / count) for batch in group]

    def _part(self, batch: Batch, share: float) -> Part:
        """A minibatch, mixed if need be, with its share in the update."""
        part = Part(batch.inputs, batch.targets)
        if share != 1:
            part = part._replace(share=np.asarray(share))
        if not self.recipe.mixup:
            return part
        # An epoch shows an example once, so its first one names a minibatch.
        stream = f"mixup:{self.progress.epoch}"
        rng = generator(self.recipe.seed, stream, int(batch.indices[0]))
        weight = float(rng.beta(self.recipe.mixup, self.recipe.mixup))
        partner = rng.permutation(len(batch.indices))
        own = batch.inputs.astype(np.float32)
        return part._replace(
            inputs=np.float32(weight) * own + np.float32(1 - weight) * own[partner],
            others=batch.targets[partner],
            weight=np.asarray(weight),
        )

    def _lr_after(self, num_updates: int) -> float:
        """The learning rate after some more updates of one minibatch each."""
        progress = self.progress
        done = (progress.batches_done + num_updates) / len(self.loader)
        return self.schedule.lr_at(
            progress.step + num_updates, progress.epoch - 1 + done
        )

    def trial(self, time_s: float) -> float:
        """Seconds for a minibatch, from about ``time_s`` of updates that are undone."""
        parts: list[Module | Optimizer | MovingAverage] = [self.model, self.optimizer]
        parts += [self.average] if self.average else []
        before = [part.state() for part in parts]
        progress, self.progress = self.progress, Progress(epoch=self.progress.epoch)
        self.model.train()
        times: list[float] = []
        with np.errstate(all="ignore"), closing(self._updates()) as updates:
            for made in updates:
                times += [update.time_s / len(update.counts) for update in made]
                self.progress.batches_done += sum(len(u.counts) for u in made)
                spent_s = sum(times[1:])
                # The first update compiles, and touches fresh memory.
                if len(times) > 1 and spent_s >= time_s:
                    break
        self.progress = progress
        for part, state in zip(parts, before, strict=True):
            part.load_state(state)
        return float(np.median(times[1:] or times))

    # What is told of them.

    def _take_note(self, updates: Sequence[_Made]) -> None:
        """Count, log and report updates that were made.

        Raises NonFiniteError at one that was not.
        """
        progress, sums = self.progress, self.progress.sums
        for outcome, lr, counts, time_s in updates:
            if not outcome.is_made:
                self._stop_before_update(len(counts), outcome.loss)
            count = sum(counts)
            progress.step += 1
            progress.batches_done += len(counts)
            for score, n in zip(outcome.scores, counts, strict=False):
                sums[self._score_name] = sums.get(self._score_name, 0.0) + score * n
            sums["loss"] = sums.get("loss", 0.0) + outcome.loss * count
            sums["examples"] = sums.get("examples", 0) + count
            step = StepFinished(
                epoch=progress.epoch,
                step=progress.step,
                loss=outcome.loss,
                lr=lr,
                gradient_norm=outcome.gradient_norm,
                num_examples=count,
                time_s=time_s,
            )
            if self.log is not None:
                self.log.append(
                    {
                        "event": "step",
                        "epoch": step.epoch,
                        "step": step.step,
                        "loss": step.loss,
                        "lr": lr,
                        "gradient_norm": step.gradient_norm,
                    }
                )
            self._emit(step)

    def _stop_before_update(self, num_batches: int, loss: float) -> None:
        """Keep the last good weights and raise NonFiniteError, naming the layer."""
        progress = self.progress
        first = progress.batches_done
        steps = range(first, first + num_batches)
        parts = self._parts([self.loader.batch(progress.epoch, i) for i in steps])

        def repeated() -> Tensor:
            losses = (self.update.loss_of(part)[0] for part in parts)
            return sum(losses, start=as_tensor(0.0))

        before = self.model.state()
        where = locate(self.model, repeated)
        self.model.load_state(before)  # dropout has drawn once more
        self.optimizer.zero_grad()
        self.save()
        kept = f"; the weights of step {progress.step} are in {self.checkpoint}"
        raise NonFiniteError(
            f"training stopped before step {progress.step + 1}: {where}",
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


def _can_be_picked(inputs: Array) -> bool:
    """Whether native code can pick minibatches from the array as it lies."""
    is_known = inputs.dtype in (np.uint8, FLOAT32, FLOAT64)
    return is_known and inputs.flags.c_contiguous


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
