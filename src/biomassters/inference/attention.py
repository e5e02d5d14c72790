"""Which months the network looked at: its own attention weights, averaged over pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import Tensor, nn

from biomassters.network.month_pooling import Months, softmax_over_months
from biomassters.network.temporal_attention import TemporalAttention


class RecordedAttention:
    """What was recorded in each thread."""

    def __init__(self) -> None:
        self._of = local()

    def note(self, weights_BT: Tensor) -> None:
        """Add a level's weights in this thread."""
        if not hasattr(self._of, "levels"):
            self._of.levels = []
        self._of.levels.append(weights_BT)

    def take(self) -> list[Tensor]:
        """What was recorded in this thread since it last asked: a tensor a level.

        float32 [B, 12], the mean over pixels of the weight of each of a chip's months, in the
        order of the months that the chip has; over them it sums to 1.
        """
        levels: list[Tensor] = getattr(self._of, "levels", [])
        self._of.levels = []
        return levels


@contextmanager
def recorded_attention(levels: nn.ModuleList) -> Iterator[RecordedAttention]:
    """Record the weights that temporal attention gives to months while the network runs.

    Args:
        levels: ``AgbNet.attn``; each level scores its features itself.

    Yields:
        The record; threads that run the network at the same time have one each.
    """
    found = RecordedAttention()

    def record(level: nn.Module, inputs: tuple[Any, ...]) -> None:
        features_MDHW, months = inputs
        assert isinstance(months, Months)
        assert isinstance(level, TemporalAttention)
        scores_MHW = level.score(features_MDHW).float()
        found.note(softmax_over_months(scores_MHW, months).mean(dim=(2, 3)).cpu())

    handles = [level.register_forward_pre_hook(record) for level in levels]
    try:
        with torch.no_grad():
            yield found
    finally:
        for handle in handles:
            handle.remove()
