"""Everything that changes while a network is trained: what a checkpoint holds."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from biomassters.training.averaging import AveragedNetwork
from biomassters.training.optimizer import make_optimizer
from biomassters.training.options import TrainingOptions


@dataclass
class EpochTally:
    """Sums over the steps of the epoch at work; ranks would add theirs up.

    Attributes:
        loss: Loss times chips, Mg/ha.
        chips: Chips learnt from.
        skipped_steps: Steps left out because loss or gradient was not finite.
        seconds: Time spent, also before an interruption.
        wait_s: Part of it spent waiting for data.
    """

    loss: float = 0.0
    chips: int = 0
    skipped_steps: int = 0
    seconds: float = 0.0
    wait_s: float = 0.0

    @property
    def mean_loss(self) -> float:
        """Mean loss per chip, Mg/ha; NaN before the first."""
        return self.loss / self.chips if self.chips else math.nan


@dataclass
class Position:
    """How far a run has come; plain numbers.

    Attributes:
        epoch: Epochs finished.
        step: Steps done in the epoch after them.
        total_steps: Steps of the whole run, for the averaged weights.
        bad_steps: Steps skipped in a row.
        best_epoch: Epoch with the best validation, counted from 1; 0 before any.
        best_score: Its mean RMSE per chip, Mg/ha.
    """

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    bad_steps: int = 0
    best_epoch: int = 0
    best_score: float = math.inf


@dataclass(eq=False)
class TrainingState:
    """A network with its optimizer, averages, position and history.

    Attributes:
        network: In training.
        optimizer: Of the network.
        averaged: Its averaged weights, where the options ask for them.
        position: How far the run is.
        tally: Of the epoch at work.
        history: A row for each finished epoch; the same whatever the machine's speed.
        timing: A row for each finished epoch on how fast it was.
        best_weights: State dict of the best validation, on the CPU.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: AveragedNetwork | None
    position: Position = field(default_factory=Position)
    tally: EpochTally = field(default_factory=EpochTally)
    history: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)
    best_weights: dict[str, Tensor] | None = None

    @classmethod
    def begin(cls, network: nn.Module, options: TrainingOptions) -> "TrainingState":
        """The state before the first step; the network lies on its device."""
        averaged = (
            None if options.ema_decay is None else AveragedNetwork(network, options.ema_decay)
        )
        return cls(network, make_optimizer(network, options), averaged)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and returned."""
        return self.network if self.averaged is None else self.averaged.network

    def note_step(self, loss: float, chips: int, *, skipped: bool) -> None:
        """Count a step that has been taken or skipped."""
        position, tally = self.position, self.tally
        position.step += 1
        position.total_steps += 1
        position.bad_steps = position.bad_steps + 1 if skipped else 0
        if skipped:
            tally.skipped_steps += 1
        else:
            tally.loss += loss * chips
            tally.chips += chips

    def finish_epoch(
        self,
        learning_rate: float,
        scores: Mapping[str, float],
        validation_s: float,
        gpu_memory_gib: float = math.nan,
        saving_s: float = 0.0,
    ) -> None:
        """Write the epoch at work into the history and begin the next.

        Args:
            learning_rate: It was trained with.
            scores: Of the validation; empty without one.
            validation_s: Seconds that the validation took.
            gpu_memory_gib: Most memory taken on a GPU so far; NaN without one.
            saving_s: Seconds that checkpoints took since the epoch before was finished.
        """
        position, tally = self.position, self.tally
        position.epoch += 1
        self.history.append(
            {
                "epoch": position.epoch,
                "learning_rate": learning_rate,
                "train_loss": tally.mean_loss,
                "skipped_steps": tally.skipped_steps,
                "validation_rmse_per_chip_mean": scores.get("rmse_per_chip_mean", math.nan),
                "validation_rmse_masked_per_chip_mean": scores.get(
                    "rmse_masked_per_chip_mean", math.nan
                ),
            }
        )
        self.timing.append(
            {
                "epoch": position.epoch,
                "seconds": tally.seconds,
                "chips_per_s": tally.chips / tally.seconds if tally.seconds else math.nan,
                "wait_share": tally.wait_s / tally.seconds if tally.seconds else math.nan,
                "validation_seconds": validation_s,
                "saving_seconds": saving_s,
                "gpu_memory_gib": gpu_memory_gib,
            }
        )
        self._keep_if_best(scores.get("rmse_per_chip_mean", math.inf))
        position.step, self.tally = 0, EpochTally()

    def _keep_if_best(self, score: float) -> None:
        if score < self.position.best_score:
            self.position.best_score, self.position.best_epoch = score, self.position.epoch
            self.best_weights = copied_to_cpu(self.evaluated)

    def capture(self) -> dict[str, Any]:
        """Tensors and plain values for a checkpoint, not copied."""
        return {
            "weights": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": dataclasses.asdict(self.position),
            "tally": dataclasses.asdict(self.tally),
            "history": self.history,
            "timing": self.timing,
            "best_weights": self.best_weights,
        }

    def restore(self, content: Mapping[str, Any]) -> None:
        """Take over what ``capture`` gave, in a run with the same options."""
        self.network.load_state_dict(content["weights"])
        if self.averaged is not None:
            self.averaged.network.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.position = Position(**content["position"])
        self.tally = EpochTally(**content["tally"])
        self.history, self.timing = list(content["history"]), list(content["timing"])
        self.best_weights = content["best_weights"]

    def checkpoint_bytes(self) -> int:
        """About how large a checkpoint is: weights, two moments, average and best."""
        weights = sum(value.nbytes for value in self.network.state_dict().values())
        return weights * (4 + (self.averaged is not None))


def copied_to_cpu(network: nn.Module) -> dict[str, Tensor]:
    """The network's state dict, independent of its further training."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
