"""Scaling of the bands, on the device, inside the network: (value − minimum) / range.

``chips/scaling`` says where the constants come from. Next: ``encoder``.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biomassters.chips.bands import BAND_NAMES, S1, S1_LEAST_DB, S1_STORE_FILL, S1_STORE_SCALE_DB

if TYPE_CHECKING:  # pydantic, without which the network can be built and measured
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
        if s2.dtype == torch.uint16 and s2.device.type != "cpu":
            # Not every device converts uint16: read the bits as int16 and take the sign off again.
            s2 = s2.view(torch.int16).to(torch.int32) & 0xFFFF
        layout = torch.channels_last if channels_last else torch.contiguous_format
        shape = (len(s1), len(BAND_NAMES), *s1.shape[2:])
        x_MCHW = torch.empty(shape, device=s1.device, memory_format=layout)
        x_MCHW[:, :S1_COUNT] = s1
        x_MCHW[:, S1_COUNT:] = s2
        # As value · factor + shift, in place and all bands at once: a temporary for each step
        # would cost several times more.
        factor, shift = 1.0 / self.range, -self.offset / self.range
        if not s1.is_floating_point():
            factor[:S1_COUNT] *= S1_STORE_SCALE_DB
        x_MCHW.mul_(factor[:, None, None]).add_(shift[:, None, None])
        absent = s1.isnan() | (s1 < S1_LEAST_DB) if s1.is_floating_point() else s1 == S1_STORE_FILL
        x_MCHW[:, :S1_COUNT].masked_fill_(absent, 0.0)
        if not self._s2_starts_at_zero:
            no_image = (s2 == 0).flatten(1).all(dim=1)[:, None, None, None]
            x_MCHW[:, S1_COUNT:].masked_fill_(no_image, 0.0)
        return x_MCHW
