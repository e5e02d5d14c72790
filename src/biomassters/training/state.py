"""Everything that changes while a network is trained: what a checkpoint holds, what a run returns.

``trainer.py`` moves it on, ``checkpoint_manager.py`` saves and restores it.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from biomassters.training.optimizer import AveragedNetwork, make_optimizer
from biomassters.training.options import TrainingOptions

LARGEST_SCALE = 65536.0
"""What float16 begins with; halved 16 times it is 1."""
STEPS_TO_DOUBLE = 2000


@dataclass
class EpochMetrics:
    """Sums over the steps of the epoch at work."""

    loss: float = 0.0  # loss times chips
    chips: int = 0  # chips learnt from
    skipped_steps: int = 0  # steps left out because loss or gradient was not finite
    seconds: float = 0.0  # time spent, also before an interruption
    wait_s: float = 0.0  # part of it spent waiting for data

    @property
    def mean_loss(self) -> float:
        """Mean loss per chip, in the loss's unit; NaN before the first."""
        return self.loss / self.chips if self.chips else math.nan

    def per_second(self, amount: float) -> float:
        """An amount over the time spent; NaN before any."""
        return amount / self.seconds if self.seconds else math.nan


@dataclass
class Position:
    """How far a run has come."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch after them
    total_steps: int = 0  # steps of the whole run, for the averaged weights
    bad_steps: int = 0  # steps skipped in a row
    best_epoch: int = 0  # epoch with the best validation, counted from 1; 0 before any
    best_score: float = math.inf  # its score, Mg/ha: see ``TrainingOptions.validation_score``
    # What float16 multiplies the loss with, so that small gradients don't vanish.
    loss_scale: float = LARGEST_SCALE
    steps_since_overflow: int = 0  # steps that its gradients have fitted into float16

    def adapt_loss_scale(self, *, overflowed: bool) -> None:
        """Halve the scale after an overflow, double it after 2,000 steps without.

        The rule and numbers of ``torch.amp.GradScaler`` (Micikevicius et al., arXiv 1710.03740),
        which would keep a state of its own and look for infinities once more.
        """
        if overflowed:
            self.loss_scale, self.steps_since_overflow = max(1.0, self.loss_scale / 2), 0
            return
        self.steps_since_overflow += 1
        if self.steps_since_overflow == STEPS_TO_DOUBLE:
            self.loss_scale, self.steps_since_overflow = self.loss_scale * 2, 0


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training came to.

    Attributes:
        best_state: State dict of the epoch with the best validation; the last without one.
        last_state: State dict after the last epoch.
        history: A row per epoch: epoch (from 1), learning_rate, train_loss, skipped_steps,
            validation_rmse_per_chip_mean, validation_rmse_masked_per_chip_mean (negative biomass
            set to 0) and validation_rmse_unclipped_per_chip_mean (not; of several view sets the
            least), in Mg/ha, NaN where it was not validated. The same whatever the machine's
            speed.
        timing: A row per epoch: epoch, seconds, chips_per_s, wait_share, validation_seconds,
            saving_seconds (of checkpoints, since the row before), gpu_memory_gib (NaN without a
            GPU); with several ranks, means over them.
        best_epoch: Of ``best_state``, from 1; None without validation.
        best_score: Its score, Mg/ha: see ``TrainingOptions.validation_score``; None without
            validation.
    """

    best_state: dict[str, Tensor]
    last_state: dict[str, Tensor]
    history: pd.DataFrame
    timing: pd.DataFrame
    best_epoch: int | None
    best_score: float | None


@dataclass(eq=False)
class TrainingState:
    """A network with its optimizer, averages, position and history."""

    network: nn.Module  # in training, on its device
    optimizer: torch.optim.Optimizer
    averaged: AveragedNetwork | None  # its averaged weights, where the options ask for them
    position: Position = field(default_factory=Position)
    metrics: EpochMetrics = field(default_factory=EpochMetrics)  # of the epoch at work
    # Rows of ``TrainingResult.history``.
    history: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)  # rows of ``TrainingResult.timing``
    best_weights: dict[str, Tensor] | None = None  # state dict of the best validation, on the CPU

    @classmethod
    def begin(cls, network: nn.Module, options: TrainingOptions) -> "TrainingState":
        """The state before the first step."""
        decay = options.ema_decay
        averaged = None if decay is None else AveragedNetwork(network, decay)
        return cls(network, make_optimizer(network, options), averaged)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and returned."""
        return self.network if self.averaged is None else self.averaged.network

    def note_step(self, loss: float, chips: int, *, skipped: bool) -> None:
        """Count a step that has been taken or skipped."""
        position, metrics = self.position, self.metrics
        position.step += 1
        position.total_steps += 1
        position.bad_steps = position.bad_steps + 1 if skipped else 0
        if skipped:
            metrics.skipped_steps += 1
        else:
            metrics.loss += loss * chips
            metrics.chips += chips

    def finish_epoch(
        self,
        learning_rate: float,
        scores: Mapping[str, float],
        validation_s: float,
        gpu_memory_gib: float = math.nan,
        saving_s: float = 0.0,
    ) -> None:
        """Write the epoch at work into the history and begin the next; no scores: not validated.

        ``scores["score"]`` decides which epoch is the best; without it ``rmse_per_chip_mean``.
        """
        position, metrics = self.position, self.metrics
        position.epoch += 1
        validated = {
            f"validation_rmse_{kind}per_chip_mean": scores.get(
                f"rmse_{kind}per_chip_mean", math.nan
            )
            for kind in ("", "unclipped_", "masked_")
        }
        score = scores.get("score", validated["validation_rmse_per_chip_mean"])
        self.history.append(
            {
                "epoch": position.epoch,
                "learning_rate": learning_rate,
                "train_loss": metrics.mean_loss,
                "skipped_steps": metrics.skipped_steps,
                **validated,
            }
        )
        self.timing.append(
            {
                "epoch": position.epoch,
                "seconds": metrics.seconds,
                "chips_per_s": metrics.per_second(metrics.chips),
                "wait_share": metrics.per_second(metrics.wait_s),
                "validation_seconds": validation_s,
                "saving_seconds": saving_s,
                "gpu_memory_gib": gpu_memory_gib,
            }
        )
        if score < position.best_score:  # NaN is not
            position.best_score, position.best_epoch = score, position.epoch
            self.best_weights = _copied_to_cpu(self.evaluated)
        position.step, self.metrics = 0, EpochMetrics()

    def capture(self) -> dict[str, Any]:
        """What a checkpoint holds: tensors, numbers and text, not copied."""
        return {
            "weights": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": asdict(self.position),
            "tally": asdict(self.metrics),  # the name that checkpoints know it by
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
        self.metrics = EpochMetrics(**content["tally"])
        self.history, self.timing = list(content["history"]), list(content["timing"])
        self.best_weights = content["best_weights"]

    def checkpoint_bytes(self) -> int:
        """About how large a checkpoint is: weights, two moments, average and best."""
        weights = sum(value.nbytes for value in self.network.state_dict().values())
        return weights * (4 + (self.averaged is not None))

    def result(self) -> TrainingResult:
        """What a finished run returns."""
        last, position = _copied_to_cpu(self.evaluated), self.position
        return TrainingResult(
            best_state=last if self.best_weights is None else self.best_weights,
            last_state=last,
            history=pd.DataFrame(self.history),
            timing=pd.DataFrame(self.timing),
            best_epoch=position.best_epoch or None,
            best_score=position.best_score if position.best_epoch else None,
        )


def _copied_to_cpu(network: nn.Module) -> dict[str, Tensor]:
    """The network's state dict, independent of its further training."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
