"""What a person sees of training: a bar per epoch, a line per epoch in the log."""

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch
from tqdm import tqdm

from biomassters.training.state import EpochTally


class EpochBar:
    """Bar of one epoch on stderr: chips, loss, share of time spent waiting for data.

    Args:
        title: Such as ``Epoch 3/12``.
        chips: Chips of the epoch.
        done: Of them, done before an interruption.
        device: Its memory is shown where it is a GPU.
        shown: Whether to show it at all.
    """

    def __init__(
        self, title: str, chips: int, done: int, device: torch.device, *, shown: bool
    ) -> None:
        self._device = device
        self._bar = tqdm(
            total=chips, initial=done, desc=title, unit="chip", disable=not shown, leave=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def update(self, chips: int, tally: EpochTally) -> None:
        """Move on by a step's chips."""
        wait = tally.wait_s / tally.seconds if tally.seconds else 0.0
        shown = {"loss": f"{tally.mean_loss:.1f}", "waiting": f"{wait:.0%}"}
        if tally.skipped_steps:
            shown["skipped"] = str(tally.skipped_steps)
        if self._device.type == "cuda":
            shown["GPU"] = f"{gpu_memory_gib(self._device):.1f} GiB"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update(chips)


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
    parts.append(f"{timing['wait_share']:.0%} of the time waiting for data")
    return f"Epoch {row['epoch']} of {epochs}: {', '.join(parts)}."
