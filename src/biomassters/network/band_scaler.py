"""Scaling of the bands, on the device, inside the network: (value − minimum) / range.

``chips/scaling`` says where the constants come from. Next: ``encoder``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biomassters.chips.bands import BAND_NAMES, SENSORS, channels

if TYPE_CHECKING:  # pydantic, without which the network can be built and measured
    from biomassters.chips.scaling import BandScaling


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
        self._starts_at_zero = {
            sensor.name: not offset[channels(sensor.bands)].any() for sensor in SENSORS
        }

    def forward(self, images: Mapping[str, Tensor], *, channels_last: bool = False) -> Tensor:
        """Scale packed months; where there is no data, the result is 0.

        Args:
            images: By sensor [M, bands, H, W], packed integers or floats in the bands' units.
                Of a sensor with a floor the fill value, or a float that is NaN or below the
                floor, is no data; of another one a month of zeros has no image.
            channels_last: Memory format of the result.

        Returns:
            float32 [M, all bands, H, W].
        """
        months, _, *size = next(iter(images.values())).shape
        layout = torch.channels_last if channels_last else torch.contiguous_format
        x_MCHW = torch.empty(
            (months, len(BAND_NAMES), *size), device=self.range.device, memory_format=layout
        )
        # As value · factor + shift, in place and all bands at once: a temporary for each step
        # would cost several times more.
        factor, shift = 1.0 / self.range, -self.offset / self.range
        for sensor in SENSORS:
            here, image = channels(sensor.bands), images[sensor.name]
            if image.dtype == torch.uint16 and image.device.type != "cpu":
                # Not every device converts uint16: read the bits as int16 and take the sign off.
                image = image.view(torch.int16).to(torch.int32) & 0xFFFF
            x_MCHW[:, here] = image
            if not image.is_floating_point() and sensor.scale != 1:
                factor[here] *= sensor.scale
        x_MCHW.mul_(factor[:, None, None]).add_(shift[:, None, None])
        for sensor in SENSORS:
            image = images[sensor.name]
            if sensor.floor is None:
                if self._starts_at_zero[sensor.name]:
                    continue
                absent = (image == 0).flatten(1).all(dim=1)[:, None, None, None]
            elif image.is_floating_point():
                absent = image.isnan() | (image < sensor.floor)
            else:
                absent = image == sensor.fill
            x_MCHW[:, channels(sensor.bands)].masked_fill_(absent, 0.0)
        return x_MCHW
