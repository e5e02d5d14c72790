"""Attention over a chip's months at every pixel, on packed months.

At one level: Linear(D, D) → LayerNorm → GELU → Linear(D, 1) gives each month a score at each
pixel; the softmax of a chip's scores weighs its months' features. The reference (first place of
the BioMassters challenge, MIT licence) scores all twelve months of every chip and masks the
dropped ones; here only the months that exist are there. Next: ``decoder``.

Nothing here copies the features: what is laid out as [B, 12, …] are the scores, which have one
number where the features have D. Sums run in the order of the months, without atomic additions,
so that a repeated run gives the same bits; and no size is read back from the device.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from biomassters.chips.bands import MONTH_COUNT

SCORED_AT_ONCE = 4_000_000
"""Numbers of features. Above it scores are computed piece by piece, and in training again."""


@dataclass(frozen=True)
class Months:
    """Which packed month belongs to which chip."""

    chip: Tensor  # int64 [M], ascending: the chip of each month; a chip has at most 12
    slot: Tensor  # int64 [M]: its place among the months of its chip
    month: Tensor  # int64 [B, 12]: the packed month in each place; any month where there is none
    chip_count: int  # B

    @classmethod
    def of(cls, chip_of_month: Tensor, chip_count: int) -> "Months":
        """Work out the places from the chip, 0 … B − 1, of each month: int64 [M], ascending."""
        device = chip_of_month.device
        first = torch.searchsorted(chip_of_month, torch.arange(chip_count, device=device))
        slot = torch.arange(len(chip_of_month), device=device) - first[chip_of_month]
        month = first[:, None] + torch.arange(MONTH_COUNT, device=device)
        return cls(chip_of_month, slot, month.clamp(max=len(chip_of_month) - 1), chip_count)


class TemporalAttention(nn.Module):
    """Pool the months of each chip at one level, of D channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = nn.Sequential(
            nn.Linear(channels, channels),
            nn.LayerNorm(channels),
            nn.GELU(),
            nn.Linear(channels, 1),
        )

    def forward(self, features_MDHW: Tensor, months: Months) -> Tensor:
        """Weighted sum of each chip's months: [M, D, H, W] → [B, D, H, W]."""
        return sum_over_months(features_MDHW, self.weights(features_MDHW, months), months)

    def weights(self, features_MDHW: Tensor, months: Months) -> Tensor:
        """What each month counts at each pixel: [B, 12, H, W], at least float32.

        Scoring makes three tensors as large as the features. They are never kept: it is cheap
        next to the encoder, so the backward pass repeats it.
        """
        if torch.compiler.is_compiling() or features_MDHW.numel() <= SCORED_AT_ONCE:
            scores_MHW = self._score(features_MDHW)
        else:
            pieces = features_MDHW.split(max(1, SCORED_AT_ONCE // features_MDHW[0].numel()))
            scores_MHW = torch.cat([self._score_again_in_backward(piece) for piece in pieces])
        precise = torch.promote_types(scores_MHW.dtype, torch.float32)
        return softmax_over_months(scores_MHW.to(precise), months)

    def _score(self, features_MDHW: Tensor) -> Tensor:
        scores: Tensor = self.attn(features_MDHW.permute(0, 2, 3, 1)).squeeze(-1)
        return scores

    def _score_again_in_backward(self, features_MDHW: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self._score(features_MDHW)
        scores: Tensor = checkpoint(
            self._score, features_MDHW, use_reentrant=False, preserve_rng_state=False
        )
        return scores


def softmax_over_months(scores_MHW: Tensor, months: Months) -> Tensor:
    """Softmax over the months of each chip, pixel by pixel, of the packed months' scores.

    Returns:
        [B, 12, H, W]; over the places of a chip it sums to 1; 0 where there is no month.
    """
    shape = (months.chip_count, MONTH_COUNT, *scores_MHW.shape[1:])
    padded = scores_MHW.new_full(shape, -torch.inf)
    return functional.softmax(padded.index_put((months.chip, months.slot), scores_MHW), dim=1)


def sum_over_months(features_MDHW: Tensor, weights_BTHW: Tensor, months: Months) -> Tensor:
    """Σ over a chip's months of weight × feature: [B, D, H, W] in the type of the features.

    The weights are float32, as ``softmax_over_months`` lays them out.
    """
    pooled: Tensor = _WeightedSum.apply(features_MDHW, weights_BTHW, months)
    return pooled


class _WeightedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor, months: Months) -> Tensor:
        ctx.save_for_backward(features, weights)
        ctx.months = months
        pooled = features.new_zeros(1)
        for place in range(MONTH_COUNT):
            there = features.index_select(0, months.month[:, place])
            weighted = there * weights[:, place, None]  # in float32, as the weights are
            pooled = weighted if place == 0 else pooled.add_(weighted)
        return pooled.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        features, weights = ctx.saved_tensors
        months: Months = ctx.months
        grad_weights = torch.empty_like(weights)
        for place in range(MONTH_COUNT):
            there = features.index_select(0, months.month[:, place])
            grad_weights[:, place] = (there * gradient).sum(1, dtype=weights.dtype)
        grad_features = gradient.index_select(0, months.chip)
        grad_features.mul_(weights[months.chip, months.slot].unsqueeze(1))
        return grad_features, grad_weights, None
