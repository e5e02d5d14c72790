"""The training loop, on one screen.

Per epoch: samples → batches → threads that read → device → scale → augment → predict → loss →
backward → clip → step; then the held-out chips, then the history. Nothing that happens depends
on when a run was interrupted: whatever is random is a function of seed, epoch, step and chip.
"""

import logging
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NoReturn

import torch

from biomassters.inference.device import threads_inside
from biomassters.metrics import ScoreAccumulator
from biomassters.network.agb_net import AgbNet
from biomassters.training.checks import explained_memory_errors
from biomassters.training.claim import claimed
from biomassters.training.events import EventLog
from biomassters.training.feed import Feed
from biomassters.training.interruption import StopRequest, TrainingInterrupted
from biomassters.training.keeper import Keeper
from biomassters.training.kept_memory import kept_memory
from biomassters.training.optimizer import learning_rate_at, set_learning_rate
from biomassters.training.options import TrainingOptions
from biomassters.training.progress import TrainingProgress, gpu_memory_gib
from biomassters.training.ranks import CommonRefusalError, Ranks
from biomassters.training.result import TrainingResult
from biomassters.training.state import TrainingState
from biomassters.training.step import Stepper
from biomassters.training.validation import all_scores, validate

logger = logging.getLogger(__name__)


class TrainingRun:
    """One run, from wherever it was left to its end.

    Args:
        network: On its device; trained in place.
        feed: Its chips.
        keeper: Its checkpoints.
        options: How to train.
        device: Where.
        ranks: This process among those that share the run.
        stop: Knows whether the process was asked to stop.
        event_dir: Folder of TensorBoard's event files; None writes none.
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
        ranks: Ranks,
        stop: StopRequest,
        event_dir: Path | None,
        progress: bool,
    ) -> None:
        self._feed, self._keeper, self._options = feed, keeper, options
        self._device, self._ranks, self._stop = device, ranks, stop
        self._progress = progress and ranks.first
        self._event_dir = event_dir if ranks.first else None
        self._state = TrainingState.begin(network, options)
        self._stepper = Stepper(network, options, device, ranks)

    def run(self) -> TrainingResult:
        """Do what is left of the run."""
        with ExitStack() as block:
            folder = claimed(self._keeper.path)
            self._ranks.together(lambda: block.enter_context(folder) if self._ranks.first else None)
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
            kept_memory(self._device),
            threads_inside(self._stepper.threads),
            EventLog(self._event_dir, self._state.position.total_steps) as events,
            self._new_progress() as progress,
        ):
            while not self._finished:
                self._run_epoch(events, progress)
        return TrainingResult.of(self._state)

    @property
    def _finished(self) -> bool:
        return self._state.position.epoch >= self._options.epochs

    def _new_progress(self) -> TrainingProgress:
        return TrainingProgress(
            self._feed, self._options, self._state, self._device, shown=self._progress
        )

    def _run_epoch(self, events: EventLog, progress: TrainingProgress) -> None:
        learning_rate = learning_rate_at(self._state.position.epoch, self._options)
        set_learning_rate(self._state.optimizer, learning_rate)
        self._learn(events, progress)
        self._share_times()
        start = time.perf_counter()
        scores = self._validate(progress) if self._validation_due else {}
        memory = max(self._ranks.together(lambda: gpu_memory_gib(self._device)))
        validation_s, saving_s = time.perf_counter() - start, self._keeper.saving_s()
        self._state.finish_epoch(learning_rate, scores, validation_s, memory, saving_s)
        history, timing = self._state.history[-1], self._state.timing[-1]
        events.epoch(self._state.position.total_steps, {**history, **timing})
        self._save_or_leave()
        if self._ranks.first:
            progress.finished_epoch()

    def _share_times(self) -> None:
        """Make the epoch's times the mean over ranks."""
        tally = self._state.tally
        times = torch.tensor([tally.seconds, tally.wait_s], dtype=torch.float64)
        tally.seconds, tally.wait_s = (self._ranks.total(times) / self._ranks.size).tolist()

    def _learn(self, events: EventLog, progress: TrainingProgress) -> None:
        """The steps of an epoch that are left."""
        position, tally = self._state.position, self._state.tally
        started, waited = time.perf_counter() - tally.seconds, tally.wait_s
        steps = self._feed.read(position.epoch, position.step)
        with closing(steps):
            for step in steps:
                result = self._stepper.take(self._state, step)
                self._state.note_step(result.loss, step.chips, skipped=result.skipped)
                tally.seconds = time.perf_counter() - started
                tally.wait_s = waited + self._feed.wait_s
                progress.learnt()
                events.step(position.total_steps, result.loss)
                self._check_learning(step.chip_ids)
                self._save_or_leave()

    def _check_learning(self, chip_ids: tuple[str, ...]) -> None:
        bad = self._state.position.bad_steps
        if bad > self._options.bad_steps_allowed:
            raise CommonRefusalError(
                f"Loss or gradient was not finite in {bad} steps in a row, lastly on the chips "
                f"{', '.join(chip_ids)}: lower training.learning_rate, or check these chips."
            )

    @property
    def _validation_due(self) -> bool:
        epoch = self._state.position.epoch + 1
        due = epoch % self._options.validate_every_epochs == 0 or epoch == self._options.epochs
        return due and self._feed.validation_chips > 0

    def _validate(self, progress: TrainingProgress) -> dict[str, float]:
        shares = self._ranks.together(lambda: self._validate_share(progress))
        finished = [share for share in shares if share is not None]
        if len(finished) < len(shares):
            self._leave()
        return all_scores(finished)

    def _validate_share(self, progress: TrainingProgress) -> list[ScoreAccumulator] | None:
        with closing(self._feed.read_validation()) as batches:
            return validate(
                self._state.evaluated,
                batches,
                self._options,
                self._device,
                stop=lambda: self._stop.requested,
                validated=lambda chips: progress.validated(chips * self._ranks.size),
            )

    def _save_or_leave(self) -> None:
        if self._ranks.any(self._stop.requested):
            self._leave()
        self._keeper.save_if_due(self._state)

    def _leave(self) -> NoReturn:
        self._keeper.save(self._state)
        position = self._state.position
        raise TrainingInterrupted(
            f"Training was interrupted after {position.epoch} of {self._options.epochs} epochs "
            f"and {position.step} of {self._feed.steps} steps; its state is saved in "
            f"{self._keeper.path}. Run the same command again to continue."
        )
