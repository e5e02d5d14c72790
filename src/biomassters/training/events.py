"""Curves for TensorBoard, as event files that grow while a run learns."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # takes a second to import, and not every rank writes
    from torch.utils.tensorboard import SummaryWriter

CURVES = {
    "train_loss": "epoch/loss_mg_per_ha",
    "validation_rmse_per_chip_mean": "epoch/held_out_rmse_mg_per_ha",
    "validation_rmse_masked_per_chip_mean": "epoch/held_out_rmse_masked_mg_per_ha",
    "learning_rate": "epoch/learning_rate",
    "skipped_steps": "epoch/skipped_steps",
    "chips_per_s": "speed/chips_per_s",
    "wait_share": "speed/wait_share",
    "gpu_memory_gib": "speed/gpu_memory_gib",
}


class EventLog:
    """Event files of one run; every curve runs over the run's optimizer steps.

    Args:
        folder: Where; None writes nothing.
        first_step: Steps already done. What an interrupted run wrote beyond them is hidden; at 0
            earlier event files are deleted.
    """

    def __init__(self, folder: Path | None, first_step: int) -> None:
        self._writer = None if folder is None else _writer(folder, first_step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def step(self, step: int, loss: float) -> None:
        """Note the loss of a step, Mg/ha."""
        if self._writer is not None:
            self._writer.add_scalar("step/loss_mg_per_ha", loss, step)

    def epoch(self, step: int, row: Mapping[str, Any]) -> None:
        """Note a finished epoch.

        Args:
            step: Steps done.
            row: Of history and timing; what is NaN was not measured and is left out.
        """
        if self._writer is None:
            return
        for name, curve in CURVES.items():
            if row[name] == row[name]:
                self._writer.add_scalar(curve, row[name], step)
        self._writer.flush()


def _writer(folder: Path, first_step: int) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    if not first_step:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
    return SummaryWriter(str(folder), purge_step=first_step + 1)
