"""Scaling of the bands, on the device, inside the network: (value − minimum) / range."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biomassters.chips.bands import BAND_NAMES, S1, S1_LEAST_DB, S1_STORE_FILL, S1_STORE_SCALE_DB

if TYPE_CHECKING:
    from biomassters.chips.scaling import BandScaling

S1_COUNT = len(S1.bands)


class BandScaler(nn.Module):
    """Stored integers, or dB and counts, to the numbers that the encoder sees.

    The constants are buffers: they travel with the weights, so weights never meet another
    scaling than the one they were trained with.

    Args:
        scaling: Minimum and maximum of each band.
    """

    offset: Tensor
    range: Tensor

    def __init__(self, scaling: "BandScaling") -> None:
        super().__init__()
        offset, band_range = scaling.offset_and_range()
        self.register_buffer("offset", torch.as_tensor(offset, dtype=torch.float32).clone())
        self.register_buffer("range", torch.as_tensor(band_range, dtype=torch.float32).clone())
        # 0 counts scale to 0 by themselves where the minimum is 0, as in the reference.
        self._s2_starts_at_zero = not any(offset[S1_COUNT:])

    def forward(self, s1: Tensor, s2: Tensor, *, channels_last: bool = False) -> Tensor:
        """Scale packed months; where there is no data, the result is 0.

        Args:
            s1: [M, 4, H, W], int16 in 0.01 dB (−32768: no data) or floats in dB (below −100 or
                NaN: no data).
            s2: [M, 11, H, W], uint16 or floats, counts; a month of zeros has no image.
            channels_last: Memory format of the result.

        Returns:
            float32 [M, 15, H, W].
        """
        layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (len(s1), len(BAND_NAMES), *s1.shape[2:])
        x_MCHW = torch.empty(shape, device=s1.device, memory_format=layout)
        x_MCHW[:, :S1_COUNT] = s1
        x_MCHW[:, S1_COUNT:] = _readable(s2)
        # In place and all bands at once: a temporary for each step would cost several times more.
        factor, shift = self._line(1.0 if s1.is_floating_point() else S1_STORE_SCALE_DB)
        x_MCHW.mul_(factor).add_(shift)
        x_MCHW[:, :S1_COUNT].masked_fill_(_absent_s1(s1), 0.0)
        if not self._s2_starts_at_zero:
            x_MCHW[:, S1_COUNT:].masked_fill_(_absent_s2(s2), 0.0)
        return x_MCHW

    def _line(self, s1_step_db: float) -> tuple[Tensor, Tensor]:
        """(value − minimum) / range as value · factor + shift, [15, 1, 1] each."""
        factor = 1.0 / self.range
        factor[:S1_COUNT] *= s1_step_db
        return factor[:, None, None], (-self.offset / self.range)[:, None, None]


def _absent_s1(s1: Tensor) -> Tensor:
    if s1.is_floating_point():
        return s1.isnan() | (s1 < S1_LEAST_DB)
    return s1 == S1_STORE_FILL


def _absent_s2(s2: Tensor) -> Tensor:
    """Months whose Sentinel-2 image is all zeros, bool [M, 1, 1, 1]."""
    return (_readable(s2) == 0).flatten(1).all(dim=1)[:, None, None, None]


def _readable(counts: Tensor) -> Tensor:
    if counts.dtype != torch.uint16 or counts.device.type == "cpu":
        return counts
    # Not every device converts uint16: read the bits as int16 and take the sign off again.
    return counts.view(torch.int16).to(torch.int32) & 0xFFFF
