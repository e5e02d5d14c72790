"""What a person sees of training: one bar for all of it, a line an epoch, TensorBoard's curves."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch

from biomassters.console import Progress
from biomassters.messages import counted
from biomassters.training.micro_batches import Feed
from biomassters.training.options import TrainingOptions
from biomassters.training.state import TrainingState

if TYPE_CHECKING:  # takes a second to import, and not every rank writes
    from torch.utils.tensorboard import SummaryWriter

_WORTH_SAYING = 0.05  # share of the time spent waiting for data


class TrainingProgress:
    """Progress of a whole run: every epoch that is left, with its validation.

    A validated chip counts as much as it costs beside one that is learnt from: as the finished
    epochs show, and before there is one, a third (no backward pass) times its larger size.
    Where it is not shown the last epoch's line is logged all the same.
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

    def __exit__(self, *error: Any) -> None:
        self._bar.__exit__(*error)

    def learnt(self) -> None:
        """A step has been taken."""
        position, metrics = self._state.position, self._state.metrics
        parts = [f"epoch {position.epoch + 1} of {self._options.epochs}"]
        if not math.isnan(metrics.mean_loss):
            parts.append(f"loss {metrics.mean_loss:.1f}")
        scores = [row["validation_rmse_per_chip_mean"] for row in self._state.history]
        newest = next((score for score in reversed(scores) if not math.isnan(score)), None)
        if newest is not None:
            parts.append(f"held-out RMSE {newest:.1f}")
        wait = metrics.per_second(metrics.wait_s)
        if wait >= _WORTH_SAYING:
            parts.append(f"waiting {wait:.0%}")
        if metrics.skipped_steps:
            parts.append(f"{counted(metrics.skipped_steps, 'step')} skipped")
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
        rows = zip(reversed(self._state.history), reversed(self._state.timing), strict=True)
        for history, timing in rows:
            validated = not math.isnan(history["validation_rmse_per_chip_mean"])
            if validated and timing["chips_per_s"] > 0:
                seconds = timing["validation_seconds"] / self._feed.validation_chips
                self._cost = seconds * timing["chips_per_s"]
                return


def gpu_memory_gib(device: torch.device) -> float:
    """Most memory that tensors took on a GPU so far, GiB; NaN elsewhere."""
    if device.type != "cuda":
        return math.nan
    return torch.cuda.max_memory_allocated(device) / 2**30


def epoch_line(row: Mapping[str, Any], timing: Mapping[str, Any], epochs: int) -> str:
    """One sentence on a finished epoch: its rows of history and timing, the run's epochs."""
    score = row["validation_rmse_per_chip_mean"]
    parts = [f"loss {row['train_loss']:.2f}"]
    if not math.isnan(score):
        parts.append(f"held-out RMSE {score:.2f} Mg/ha")
    if row["skipped_steps"]:
        parts.append(f"{counted(row['skipped_steps'], 'step')} skipped (loss not finite)")
    parts.append(f"{timing['chips_per_s']:.1f} chips/s")
    if timing["wait_share"] >= _WORTH_SAYING:
        parts.append(f"{timing['wait_share']:.0%} of the time waiting for data")
    return f"Epoch {row['epoch']} of {epochs}: {', '.join(parts)}."


CURVES = {
    "train_loss": "epoch/loss",
    "validation_rmse_per_chip_mean": "epoch/held_out_rmse_mg_per_ha",
    "validation_rmse_unclipped_per_chip_mean": "epoch/held_out_rmse_unclipped_mg_per_ha",
    "validation_rmse_masked_per_chip_mean": "epoch/held_out_rmse_masked_mg_per_ha",
    "learning_rate": "epoch/learning_rate",
    "skipped_steps": "epoch/skipped_steps",
    "chips_per_s": "speed/chips_per_s",
    "wait_share": "speed/wait_share",
    "gpu_memory_gib": "speed/gpu_memory_gib",
}


class EventLog:
    """TensorBoard's event files of one run; every curve runs over the run's optimizer steps.

    Args:
        folder: Where; None writes nothing.
        first_step: Steps already done. What an interrupted run wrote beyond them is hidden; at 0
            earlier event files are deleted.
    """

    def __init__(self, folder: Path | None, first_step: int) -> None:
        self._writer = None if folder is None else _writer(folder, first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def step(self, step: int, loss: float) -> None:
        """Note the loss of a step."""
        if self._writer is not None:
            self._writer.add_scalar("step/loss", loss, step)

    def epoch(self, step: int, row: Mapping[str, Any]) -> None:
        """Note a row of history and timing; what is NaN was not measured and is left out."""
        if self._writer is None:
            return
        for name, curve in CURVES.items():
            if not math.isnan(row[name]):
                self._writer.add_scalar(curve, row[name], step)
        self._writer.flush()


def _writer(folder: Path, first_step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    if not first_step:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    return SummaryWriter(str(folder), purge_step=first_step + 1)
