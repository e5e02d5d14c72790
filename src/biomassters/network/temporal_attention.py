"""Attention over a chip's months at every pixel, on packed months.

At one level: Linear(D, D) → LayerNorm → GELU → Linear(D, 1) gives each month a score at each
pixel; the softmax of a chip's scores weighs its months' features. The reference (first place of
the BioMassters challenge, MIT licence) scores all twelve months of every chip and masks the
dropped ones; here only the months that exist are there.
"""

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from biomassters.network.month_pooling import Months, softmax_over_months, sum_over_months

SCORED_AT_ONCE = 4_000_000
"""Numbers of features. Above it scores are computed piece by piece, and in training again."""


class TemporalAttention(nn.Module):
    """Pool the months of each chip at one level.

    Args:
        channels: D, channels of the level.
    """

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
        scores_MHW = self.score(features_MDHW)
        precise = torch.promote_types(scores_MHW.dtype, torch.float32)
        weights_BTHW = softmax_over_months(scores_MHW.to(precise), months)
        return sum_over_months(features_MDHW, weights_BTHW, months)

    def score(self, features_MDHW: Tensor) -> Tensor:
        """One number for each month and pixel: [M, D, H, W] → [M, H, W].

        The chain makes three tensors as large as the features. They are never kept: scoring is
        cheap next to the encoder, so the backward pass repeats it.
        """
        if torch.compiler.is_compiling() or features_MDHW.numel() <= SCORED_AT_ONCE:
            return self._score(features_MDHW)
        pieces = features_MDHW.split(max(1, SCORED_AT_ONCE // features_MDHW[0].numel()))
        if not torch.is_grad_enabled():
            return torch.cat([self._score(piece) for piece in pieces])
        return torch.cat(
            [
                checkpoint(self._score, piece, use_reentrant=False, preserve_rng_state=False)
                for piece in pieces
            ]
        )

    def _score(self, features_MDHW: Tensor) -> Tensor:
        scores: Tensor = self.attn(features_MDHW.permute(0, 2, 3, 1)).squeeze(-1)
        return scores
