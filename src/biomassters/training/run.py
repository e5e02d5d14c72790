"""The training loop, on one screen.

Per epoch: samples → batches → threads that read → device → scale → augment → predict → loss →
backward → clip → step; then the held-out chips, then the history. Nothing that happens depends
on when a run was interrupted: whatever is random is a function of seed, epoch, step and chip.
"""

import logging
import time
from contextlib import closing
from typing import NoReturn

import torch

from biomassters.errors import BadInputError
from biomassters.network.agb_net import AgbNet
from biomassters.training.checks import explained_memory_errors
from biomassters.training.claim import claimed
from biomassters.training.feed import Feed
from biomassters.training.interruption import StopRequest, TrainingInterrupted
from biomassters.training.keeper import Keeper
from biomassters.training.optimizer import learning_rate_at, set_learning_rate
from biomassters.training.options import TrainingOptions
from biomassters.training.progress import EpochBar, epoch_line
from biomassters.training.result import TrainingResult
from biomassters.training.state import TrainingState
from biomassters.training.step import Stepper, StepResult
from biomassters.training.validation import ValidationStoppedError, validate

logger = logging.getLogger(__name__)


class TrainingRun:
    """One run, from wherever it was left to its end.

    Args:
        network: On its device; trained in place.
        feed: Its chips.
        keeper: Its checkpoints.
        options: How to train.
        device: Where.
        progress: Whether to show bars on stderr.
    """

    def __init__(
        self,
        network: AgbNet,
        feed: Feed,
        keeper: Keeper,
        options: TrainingOptions,
        device: torch.device,
        *,
        progress: bool,
    ) -> None:
        self._feed, self._keeper, self._options = feed, keeper, options
        self._device, self._progress = device, progress
        self._state = TrainingState.begin(network, options)
        self._stepper = Stepper(network, options, device)
        self._stop = StopRequest()

    def run(self) -> TrainingResult:
        """Do what is left of the run."""
        with claimed(self._keeper.path):
            return self._run()

    def _run(self) -> TrainingResult:
        self._keeper.resume(self._state)
        if self._finished:
            logger.info(
                "Training is complete in %s; training.restart=true trains afresh.",
                self._keeper.path,
            )
            return TrainingResult.of(self._state)
        self._keeper.prepare(self._state)
        generators = [self._device] if self._device.type == "cuda" else []
        with (
            self._stop,
            torch.random.fork_rng(devices=generators),
            explained_memory_errors(self._options),
        ):
            while not self._finished:
                self._run_epoch()
        return TrainingResult.of(self._state)

    @property
    def _finished(self) -> bool:
        return self._state.position.epoch >= self._options.epochs

    def _run_epoch(self) -> None:
        learning_rate = learning_rate_at(self._state.position.epoch, self._options)
        set_learning_rate(self._state.optimizer, learning_rate)
        self._learn()
        start = time.perf_counter()
        scores = self._validate() if self._validation_due else {}
        self._state.finish_epoch(learning_rate, scores, time.perf_counter() - start)
        self._save_or_leave()
        history, timing = self._state.history[-1], self._state.timing[-1]
        logger.info(epoch_line(history, timing, self._options.epochs))

    def _learn(self) -> None:
        """The steps of an epoch that are left."""
        position, tally = self._state.position, self._state.tally
        started, waited = time.perf_counter() - tally.seconds, tally.wait_s
        steps = self._feed.read(position.epoch, position.step)
        with self._bar() as bar, closing(steps):
            for step in steps:
                result = self._stepper.take(self._state, step.parts, step.chips)
                self._state.note_step(result.loss, step.chips, skipped=result.skipped)
                tally.seconds = time.perf_counter() - started
                tally.wait_s = waited + self._feed.wait_s
                bar.update(step.chips, tally)
                self._check_learning(result)
                self._save_or_leave()

    def _bar(self) -> EpochBar:
        position = self._state.position
        return EpochBar(
            f"Epoch {position.epoch + 1}/{self._options.epochs}",
            self._feed.chips,
            min(position.step * self._options.batch_size, self._feed.chips),
            self._device,
            shown=self._progress,
        )

    def _check_learning(self, result: StepResult) -> None:
        bad = self._state.position.bad_steps
        if bad > self._options.bad_steps_allowed:
            raise BadInputError(
                f"Loss or gradient was not finite in {bad} steps in a row, lastly on the chips "
                f"{', '.join(result.chip_ids)}: lower training.learning_rate, or check these chips."
            )

    @property
    def _validation_due(self) -> bool:
        epoch = self._state.position.epoch + 1
        due = epoch % self._options.validate_every_epochs == 0 or epoch == self._options.epochs
        return due and self._feed.validation_chips > 0

    def _validate(self) -> dict[str, float]:
        with closing(self._feed.read_validation()) as batches:
            try:
                return validate(
                    self._state.evaluated,
                    batches,
                    self._options,
                    self._device,
                    chips=self._feed.validation_chips,
                    stop=lambda: self._stop.requested,
                    progress=self._progress,
                )
            except ValidationStoppedError:
                self._leave()

    def _save_or_leave(self) -> None:
        if self._stop.requested:
            self._leave()
        self._keeper.save_if_due(self._state)

    def _leave(self) -> NoReturn:
        self._keeper.save(self._state)
        position = self._state.position
        message = (
            f"Training was interrupted after {position.epoch} of {self._options.epochs} epochs "
            f"and {position.step} of {self._feed.steps} steps; its state is saved in "
            f"{self._keeper.path}. Run the same command again to continue."
        )
        logger.warning(message)
        raise TrainingInterrupted(message)
