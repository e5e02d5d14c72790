"""The training loop: epochs of steps, each followed by validation, history and checkpoint.

``Trainer`` is the loop, ``train_step.py`` one step of it. Nothing that happens depends on when a
run was interrupted: whatever is random is a function of seed, epoch, step and chip.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, Self

import torch
from timm.layers import convert_sync_batchnorm

from biomassters.chips.store.reader import StoreSplit
from biomassters.errors import BadInputError
from biomassters.inference.device import threads_inside
from biomassters.network.agb_net import AgbNet
from biomassters.training.checkpoint_manager import CheckpointManager
from biomassters.training.losses import Loss
from biomassters.training.micro_batches import Feed
from biomassters.training.monitoring import EventLog, TrainingProgress, gpu_memory_gib
from biomassters.training.optimizer import learning_rate_at, set_learning_rate
from biomassters.training.options import TrainingOptions
from biomassters.training.ranks import CommonRefusalError, Ranks
from biomassters.training.state import LARGEST_SCALE, TrainingResult, TrainingState
from biomassters.training.train_step import Stepper, kept_memory
from biomassters.training.validation import BatchScores, all_scores, validate

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """What a run is made of; it can be pickled, so that any process can do its part of it."""

    network: AgbNet  # with the weights that the run starts from; trained in place
    split: StoreSplit  # of the chip store, a handle that opens it where it is used
    training: tuple[int, ...]  # indices of the chips to learn from
    validation: tuple[int, ...]  # indices of the chips held out
    options: TrainingOptions  # of the run
    checkpoint_dir: Path  # folder of its checkpoints
    identity: dict[str, Any]  # what ``run_identity`` says of it
    event_dir: Path | None  # folder of TensorBoard's event files; None writes none
    # The one that the options name. Unpickled, it brings its module along, which registers it in a
    # process that has not imported it.
    loss: Loss


class Trainer:
    """One run, from wherever it was left to its end, as one of its processes sees it."""

    def __init__(
        self,
        job: TrainingJob,
        ranks: Ranks,
        device: torch.device,
        stop: "StopRequest",
        on_validation: Callable[[float], object] | None = None,
    ) -> None:
        options, network = job.options, job.network
        if options.sync_batch_norm and ranks.size > 1:
            network = convert_sync_batchnorm(network)
        network = network.to(device).configure(options.execution)
        self._options, self._device, self._ranks, self._stop = options, device, ranks, stop
        self._feed = Feed(job.split, job.training, job.validation, options, device, ranks)
        self._checkpoints = CheckpointManager(
            job.checkpoint_dir, job.identity, options, self._feed, ranks
        )
        self._state = TrainingState.begin(network, options)
        self._stepper = Stepper(network, options, device, ranks)
        self._event_dir = job.event_dir if ranks.first else None
        self._on_validation = on_validation

    def run(self) -> TrainingResult:
        """Do what is left of the run; the same result on every rank."""
        with self._checkpoints.locked():
            self._checkpoints.resume(self._state)
            if self._finished:
                logger.info(
                    "Training is complete in %s; training.restart=true trains afresh.",
                    self._checkpoints.path,
                )
            else:
                self._checkpoints.prepare(self._state)
                self._train()
        return self._state.result()

    @property
    def _finished(self) -> bool:
        return self._state.position.epoch >= self._options.epochs

    @property
    def _bad_steps_allowed(self) -> int:
        """Float16 may halve the scale of its loss down to 1 before an overflow means anything."""
        scaled = self._options.precision == "float16"
        return self._options.bad_steps_allowed + scaled * int(math.log2(LARGEST_SCALE))

    def _train(self) -> None:
        with (
            self._stop,
            torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []),
            explained_memory_errors(self._options),
            kept_memory(self._device),
            threads_inside(self._stepper.threads),
            EventLog(self._event_dir, self._state.position.total_steps) as events,
            TrainingProgress(
                self._feed, self._options, self._state, self._device, shown=self._ranks.first
            ) as progress,
        ):
            while not self._finished:
                self._run_epoch(events, progress)

    def _run_epoch(self, events: EventLog, progress: TrainingProgress) -> None:
        state, ranks = self._state, self._ranks
        learning_rate = learning_rate_at(state.position.epoch, self._options)
        set_learning_rate(state.optimizer, learning_rate)
        self._take_steps(events, progress)

        start = time.perf_counter()
        scores = self._validate(progress) if self._validation_due else {}
        memory = max(ranks.together(lambda: gpu_memory_gib(self._device)))
        validation_s, saving_s = time.perf_counter() - start, self._checkpoints.saving_s()

        state.finish_epoch(learning_rate, scores, validation_s, memory, saving_s)
        events.epoch(state.position.total_steps, {**state.history[-1], **state.timing[-1]})
        self._save_or_leave()
        if ranks.first:
            progress.finished_epoch()
        if scores and self._on_validation is not None:
            self._on_validation(scores["rmse_per_chip_mean"])

    def _take_steps(self, events: EventLog, progress: TrainingProgress) -> None:
        """The steps of an epoch that are left."""
        position, metrics = self._state.position, self._state.metrics
        started, waited = time.perf_counter() - metrics.seconds, metrics.wait_s
        with closing(self._feed.read(position.epoch, position.step)) as steps:
            for step in steps:
                loss, skipped = self._stepper.take(self._state, step)
                self._state.note_step(loss, step.chips, skipped=skipped)
                metrics.seconds = time.perf_counter() - started
                metrics.wait_s = waited + self._feed.wait_s
                progress.learnt()
                events.step(position.total_steps, loss)
                if position.bad_steps > self._bad_steps_allowed:
                    raise CommonRefusalError(
                        f"Loss or gradient was not finite in {position.bad_steps} steps in a row, "
                        f"lastly on the chips {', '.join(step.chip_ids)}: lower "
                        "training.learning_rate, or check these chips."
                    )
                self._save_or_leave()
        times = torch.tensor([metrics.seconds, metrics.wait_s], dtype=torch.float64)
        metrics.seconds, metrics.wait_s = (self._ranks.total(times) / self._ranks.size).tolist()

    @property
    def _validation_due(self) -> bool:
        epoch = self._state.position.epoch + 1
        due = epoch % self._options.validate_every_epochs == 0 or epoch == self._options.epochs
        return due and self._feed.validation_chips > 0

    def _validate(self, progress: TrainingProgress) -> dict[str, float]:
        def validate_share() -> list[BatchScores] | None:
            with closing(self._feed.read_validation()) as batches:
                return validate(
                    self._state.evaluated,
                    batches,
                    self._options,
                    self._device,
                    stop=lambda: self._stop.requested,
                    validated=lambda chips: progress.validated(chips * self._ranks.size),
                )

        shares = self._ranks.together(validate_share)
        finished = [share for share in shares if share is not None]
        if len(finished) < len(shares):
            self._leave()
        scores = all_scores(finished)
        by_maps = self._options.validation_score == "maps"
        name = "rmse_per_chip_mean" if by_maps else "rmse_unclipped_per_chip_mean"
        return scores | {"score": scores[name]}

    def _save_or_leave(self) -> None:
        if self._ranks.any(self._stop.requested):
            self._leave()
        self._checkpoints.save_if_due(self._state)

    def _leave(self) -> NoReturn:
        self._checkpoints.save(self._state)
        position = self._state.position
        raise TrainingInterrupted(
            f"Training was interrupted after {position.epoch} of {self._options.epochs} epochs "
            f"and {position.step} of {self._feed.steps} steps; its state is saved in "
            f"{self._checkpoints.path}. Run the same command again to continue."
        )


@contextmanager
def explained_memory_errors(options: TrainingOptions) -> Iterator[None]:
    """Turn an exhausted memory within the block into advice; leave other errors alone."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        exhausted = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not exhausted and "DefaultCPUAllocator: can't allocate memory" not in str(error):
            raise
        part = options.batch_size // options.gradient_accumulation
        size = "whole chips" if options.crop is None else f"crops of {options.crop} pixels"
        raise BadInputError(
            f"Memory ran out with {part} {size} at a time: raise training.gradient_accumulation "
            "(same batch, in parts), or lower training.crop or training.batch_size."
        ) from error


# ---- Ctrl-C and the scheduler's SIGTERM: asked politely, training saves and leaves

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingInterrupted(KeyboardInterrupt):
    """Training stopped because it was asked to, after saving its state.

    A ``KeyboardInterrupt``, so that nothing that handles failures takes it for one.
    """


class StopRequest:
    """Notes within its block that the process was asked to stop.

    Nothing is done inside the handler: whoever runs the loop looks at ``requested`` where it is
    safe to stop. From the second signal on the earlier handlers are back, so that an impatient
    user is obeyed at once. Outside the main thread, where Python allows no handlers, nothing
    is noted and signals act as before.

    Args:
        patient: Whether further signals change nothing, to the end of the process. For one that
            another watches over: a terminal sends Ctrl-C to both, and the other passes it on.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.requested, self._patient = False, patient
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if not self._patient:
            self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self._patient:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._earlier.items():
            # None stands for a handler that was not set from Python and can't be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._earlier = {}
