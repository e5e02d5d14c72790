"""What training hands back."""

from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from biomassters.training.state import TrainingState, copied_to_cpu


@dataclass(frozen=True, eq=False)
class TrainingResult:
    """What training came to.

    Attributes:
        best_state: State dict of the epoch with the best validation; the last without one.
        last_state: State dict after the last epoch.
        history: A row per epoch: epoch (from 1), learning_rate, train_loss, skipped_steps,
            validation_rmse_per_chip_mean, validation_rmse_masked_per_chip_mean (Mg/ha, NaN
            where it was not validated).
        timing: A row per epoch: epoch, seconds, chips_per_s, wait_share, validation_seconds,
            saving_seconds (of checkpoints, since the row before), gpu_memory_gib (NaN without a
            GPU); with several ranks, means over them.
        best_epoch: Of ``best_state``, from 1; None without validation.
        best_score: Its mean RMSE per chip, Mg/ha; None without validation.
    """

    best_state: dict[str, Tensor]
    last_state: dict[str, Tensor]
    history: pd.DataFrame
    timing: pd.DataFrame
    best_epoch: int | None
    best_score: float | None

    @classmethod
    def of(cls, state: TrainingState) -> "TrainingResult":
        """The result of a finished state."""
        last, position = copied_to_cpu(state.evaluated), state.position
        return cls(
            best_state=last if state.best_weights is None else state.best_weights,
            last_state=last,
            history=pd.DataFrame(state.history),
            timing=pd.DataFrame(state.timing),
            best_epoch=position.best_epoch or None,
            best_score=position.best_score if position.best_epoch else None,
        )
