"""Attention over a chip's months at every pixel, on packed months.

At one level: Linear(D, D) → LayerNorm → GELU → Linear(D, 1) gives each month a score at each
pixel; the softmax of a chip's scores weighs its months' features. The reference (first place of
the BioMassters challenge, MIT licence) scores all twelve months of every chip and masks the
dropped ones; here only the months that exist are there.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from biomassters.chips.bands import MONTH_COUNT


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

    def forward(self, features_MDHW: Tensor, chip_of_month: Tensor, chip_count: int) -> Tensor:
        """Weighted sum of each chip's months.

        Args:
            features_MDHW: Features of the packed months.
            chip_of_month: int64 [M], ascending: the chip that a month belongs to.
            chip_count: B.

        Returns:
            [B, D, H, W].
        """
        scores_MHW = self.attn(features_MDHW.permute(0, 2, 3, 1)).squeeze(-1)
        weights_MHW = softmax_over_months(scores_MHW.float(), chip_of_month, chip_count)
        return sum_over_months(features_MDHW, weights_MHW, chip_of_month, chip_count)


def softmax_over_months(scores_MHW: Tensor, chip_of_month: Tensor, chip_count: int) -> Tensor:
    """Softmax over the months of each chip, pixel by pixel.

    Scores are small (one number where features have D), so they alone are laid out as
    [B, 12, H, W]; that needs no sizes that only the device knows, and no atomic additions.

    Args:
        scores_MHW: Scores of the packed months.
        chip_of_month: int64 [M], ascending; a chip has at most 12 months.
        chip_count: B.

    Returns:
        Weights [M, H, W]; over the months of a chip they sum to 1.
    """
    months = torch.arange(len(chip_of_month), device=chip_of_month.device)
    chips = torch.arange(chip_count, device=chip_of_month.device)
    slot = months - torch.searchsorted(chip_of_month, chips)[chip_of_month]
    padded = scores_MHW.new_full((chip_count, MONTH_COUNT, *scores_MHW.shape[1:]), -torch.inf)
    padded = padded.index_put((chip_of_month, slot), scores_MHW)
    return functional.softmax(padded, dim=1)[chip_of_month, slot]


def sum_over_months(
    features_MDHW: Tensor, weights_MHW: Tensor, chip_of_month: Tensor, chip_count: int
) -> Tensor:
    """Σ over a chip's months of weight × feature.

    Args:
        features_MDHW: Features of the packed months.
        weights_MHW: Their weights.
        chip_of_month: int64 [M], ascending.
        chip_count: B.

    Returns:
        [B, D, H, W] in the type of the features.
    """
    weighted = features_MDHW * weights_MHW.to(features_MDHW.dtype).unsqueeze(1)
    pooled = weighted.new_zeros((chip_count, *weighted.shape[1:]))
    return pooled.index_add(0, chip_of_month, weighted)
