"""Scaling of the bands, on the device, inside the network: (value − minimum) / range."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biomassters.chips.bands import BAND_NAMES, S1, S1_NODATA_DB, S1_STORE_FILL, S1_STORE_SCALE_DB

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
            s1: [M, 4, H, W], int16 in 0.01 dB (−32768: no data) or floats in dB (−9999 or NaN:
                no data).
            s2: [M, 11, H, W], uint16 or floats, counts; a month of zeros has no image.
            channels_last: Memory format of the result.

        Returns:
            float32 [M, 15, H, W].
        """
        layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (len(s1), len(BAND_NAMES), *s1.shape[2:])
        x_MCHW = torch.empty(shape, device=s1.device, memory_format=layout)
        minimum, band_range = self.offset[:, None, None], self.range[:, None, None]
        x_MCHW[:, :S1_COUNT] = self._scale_s1(s1, minimum[:S1_COUNT], band_range[:S1_COUNT])
        x_MCHW[:, S1_COUNT:] = self._scale_s2(s2, minimum[S1_COUNT:], band_range[S1_COUNT:])
        return x_MCHW

    def _scale_s1(self, s1: Tensor, minimum: Tensor, band_range: Tensor) -> Tensor:
        if s1.is_floating_point():
            absent, value_db = s1.isnan() | (s1 == S1_NODATA_DB), s1.float()
        else:
            absent, value_db = s1 == S1_STORE_FILL, s1.float() * S1_STORE_SCALE_DB
        return ((value_db - minimum) / band_range).masked_fill_(absent, 0.0)

    def _scale_s2(self, s2: Tensor, minimum: Tensor, band_range: Tensor) -> Tensor:
        counts = _unsigned_to_float(s2)
        scaled = (counts - minimum) / band_range
        if self._s2_starts_at_zero:
            return scaled
        absent = (counts == 0).flatten(1).all(dim=1)
        return scaled.masked_fill_(absent[:, None, None, None], 0.0)


def _unsigned_to_float(counts: Tensor) -> Tensor:
    if counts.dtype != torch.uint16:
        return counts.float()
    if counts.device.type == "cpu":
        return counts.to(torch.float32)
    # Not every device converts uint16: read the bits as int16 and take the sign off again.
    return (counts.view(torch.int16).to(torch.int32) & 0xFFFF).to(torch.float32)
