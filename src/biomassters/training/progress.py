"""What a person sees of training: one bar for all of it, a line per epoch in the log."""

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch

from biomassters.console import Progress
from biomassters.training.feed import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState

_WORTH_SAYING = 0.05  # share of the time spent waiting for data


class TrainingProgress:
    """Progress of a whole run: every epoch that is left, with its validation.

    A validated chip counts as much as it costs beside one that is learnt from: as the finished
    epochs show, and before there is one, a third (no backward pass) times its larger size.

    Args:
        feed: The run's chips.
        options: Of the run.
        state: How far it is when it begins.
        device: Its memory is shown where it is a GPU.
        shown: Whether to show anything but the last epoch's line.
    """

    def __init__(
        self,
        feed: Feed,
        options: TrainingOptions,
        state: TrainingState,
        device: torch.device,
        *,
        shown: bool,
    ) -> None:
        self._feed, self._options, self._state, self._device = feed, options, state, device
        pixels = feed.split.height * feed.split.width
        self._cost = pixels / (options.crop or feed.split.height) ** 2 / 3
        self._measure()
        done, total = self._work(0)
        self._bar = Progress("training", total, done=done, shown=shown)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def learnt(self) -> None:
        """A step has been taken."""
        position, tally = self._state.position, self._state.tally
        wait = tally.wait_s / tally.seconds if tally.seconds else 0.0
        parts = [f"epoch {position.epoch + 1} of {self._options.epochs}"]
        if not math.isnan(tally.mean_loss):
            parts.append(f"loss {tally.mean_loss:.1f}")
        scores = [row["validation_rmse_per_chip_mean"] for row in self._state.history]
        newest = next((score for score in reversed(scores) if not math.isnan(score)), None)
        if newest is not None:
            parts.append(f"held-out RMSE {newest:.1f}")
        if wait >= _WORTH_SAYING:
            parts.append(f"waiting {wait:.0%}")
        if tally.skipped_steps:
            parts.append(f"{tally.skipped_steps} steps skipped")
        if self._device.type == "cuda":
            parts.append(f"{gpu_memory_gib(self._device):.1f} GiB of GPU memory")
        self._bar.note(*parts)
        self._bar.reach(*self._work(0))

    def validated(self, chips: int) -> None:
        """So many held-out chips of the epoch at work have been predicted."""
        self._bar.reach(*self._work(chips))

    def finished_epoch(self) -> None:
        """The epoch is in the history; its line is logged where the last line isn't too fresh."""
        self._measure()
        history, timing = self._state.history[-1], self._state.timing[-1]
        line = epoch_line(history, timing, self._options.epochs)
        self._bar.say(line, surely=history["epoch"] == self._options.epochs)
        self._bar.reach(*self._work(0))

    def _work(self, validated: int) -> tuple[float, float]:
        """Work done and in all, in chips learnt from."""
        position, feed, options = self._state.position, self._feed, self._options
        every = options.validate_every_epochs
        validation = feed.validation_chips * self._cost
        learnt = min(position.step * options.batch_size, feed.chips)
        done = position.epoch * feed.chips + position.epoch // every * validation + learnt
        total = options.epochs * feed.chips + -(-options.epochs // every) * validation
        return done + min(validated, feed.validation_chips) * self._cost, total

    def _measure(self) -> None:
        """What a validated chip costs, from the newest epoch that had a validation."""
        chips = self._feed.validation_chips
        rows = zip(reversed(self._state.history), reversed(self._state.timing), strict=True)
        for history, timing in rows:
            validated = not math.isnan(history["validation_rmse_per_chip_mean"])
            if validated and timing["chips_per_s"] > 0:
                self._cost = timing["validation_seconds"] * timing["chips_per_s"] / chips
                return


def gpu_memory_gib(device: torch.device) -> float:
    """Most memory that tensors took on a GPU so far, GiB; NaN elsewhere."""
    if device.type != "cuda":
        return math.nan
    return torch.cuda.max_memory_allocated(device) / 2**30


def epoch_line(row: Mapping[str, Any], timing: Mapping[str, Any], epochs: int) -> str:
    """One sentence on a finished epoch.

    Args:
        row: Its row of the history.
        timing: Its row of the timing.
        epochs: Of the whole run.
    """
    score = row["validation_rmse_per_chip_mean"]
    parts = [f"loss {row['train_loss']:.2f}"]
    if not math.isnan(score):
        parts.append(f"held-out RMSE {score:.2f} Mg/ha")
    if row["skipped_steps"]:
        parts.append(f"{row['skipped_steps']} steps skipped (loss not finite)")
    parts.append(f"{timing['chips_per_s']:.1f} chips/s")
    if timing["wait_share"] >= _WORTH_SAYING:
        parts.append(f"{timing['wait_share']:.0%} of the time waiting for data")
    return f"Epoch {row['epoch']} of {epochs}: {', '.join(parts)}."
