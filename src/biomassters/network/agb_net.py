"""The network: a year of images of a chip → its aboveground biomass.

The method of the BioMassters challenge's first place (MIT licence): an encoder that all months
share, attention over the months at every level, a U-Net decoder with scSE gates. Months are
packed: what does not exist is not encoded. Next: its parts, in the order of ``forward_scaled``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from biomassters.chips.bands import BAND_NAMES, SENSORS, channels
from biomassters.errors import BadInputError
from biomassters.network.cpu.convolution import Convolution
from biomassters.network.decoder import Decoder
from biomassters.network.encoder import STRIDES, Encoder
from biomassters.network.execution import CompiledOrPlain, recompute_levels
from biomassters.network.temporal_attention import Months, TemporalAttention

if TYPE_CHECKING:  # pydantic, without which the network can be built and measured
    from biomassters.chips.scaling import BandScaling
    from biomassters.network.options import ExecutionOptions, NetworkOptions

Images = Mapping[str, Tensor]
"""By sensor [M, bands, H, W]."""


class AgbNet(nn.Module):
    """Aboveground biomass from packed months.

    Parameters carry the names of the reference's weights (``encoder.model``, ``attn``,
    ``decoder.blocks``, ``segmentation_head``); ours adds the scaling constants (``scaler``).

    Args:
        options: The architecture.
        scaling: Minimum and maximum of each band; ``chips/scaling`` says where they come from.

    Raises:
        BadInputError: timm does not know the backbone, or it has no five feature levels.
    """

    _memory_format = torch.channels_last

    def __init__(self, options: "NetworkOptions", scaling: "BandScaling") -> None:
        super().__init__()
        self.options = options
        self.scaling = scaling
        self.scaler = BandScaler(scaling)
        self.encoder = Encoder(
            options.backbone,
            len(BAND_NAMES),
            pretrained=options.pretrained,
            allow_random_start=options.allow_random_start,
        )
        channels = self.encoder.channels
        self.attn = nn.ModuleList(TemporalAttention(width) for width in channels)
        self.decoder = Decoder(channels, options.decoder_channels, scse=options.scse)
        self.segmentation_head = nn.Conv2d(options.decoder_channels[-1], 1, 3, padding=1)
        nn.init.xavier_uniform_(self.segmentation_head.weight)
        nn.init.zeros_(self.segmentation_head.bias)  # type: ignore[arg-type]
        self.is_folded = False
        self.keeps_statistics = False
        self._compiled: dict[str, CompiledOrPlain] = {}
        self.execution: ExecutionOptions | None = None
        self.to(memory_format=torch.channels_last)

    @property
    def width(self) -> int:
        """Channels of the decoder's first block."""
        return self.options.decoder_channels[0]

    def train(self, mode: bool = True) -> Self:
        """As ``nn.Module.train``; with ``keeps_statistics`` BatchNorm stays in evaluation mode."""
        super().train(mode)
        if mode and self.keeps_statistics:
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        return self

    def configure(self, execution: "ExecutionOptions | None") -> Self:
        """Choose how the network is computed; weights and results stay. None leaves all as it is.

        To be called where it will be computed: ``auto`` looks at the device.
        """
        self.execution = execution
        if execution is None:
            return self
        channels_last = execution.channels_last
        if channels_last == "auto":
            # cuDNN makes kernels for each new shape, and month dropout makes new ones at nearly
            # every step: on an H200 4.5 s each in channels_last, 0.2-0.6 s without.
            channels_last = self.segmentation_head.weight.device.type == "cpu"
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.to(memory_format=self._memory_format)
        for module in self.modules():
            if isinstance(module, Convolution):
                module.winograd, module.subpixel = execution.winograd, execution.subpixel
        recompute_levels(self.encoder, self.decoder, execution.checkpoint_levels)
        parts = ("encoder", "decoder") if execution.compile else ()
        self._compiled = {part: CompiledOrPlain(getattr(self, part), part) for part in parts}
        return self

    def forward(
        self, images: Images, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """Predict from stored integers, or from dB and counts.

        Args:
            images: By sensor [M, bands, H, W]: ``"s1"`` int16 in 0.01 dB (−32768: no data) or dB
                (−9999 or NaN: no data), ``"s2"`` counts; a month of zeros has no image.
            chip_of_month: int64 [M], ascending: the chip, 0 … B − 1, of each month.
            chip_count: B; read from ``chip_of_month``, which waits for the device, without it.

        Returns:
            float32 [B, 1, H, W], Mg/ha.

        Raises:
            BadInputError: An image size or band count that the network cannot take.
        """
        _check_images(images)
        return self.forward_scaled(self.scale(images), chip_of_month, chip_count)

    def scale(self, images: Images) -> Tensor:
        """The packed months as the encoder sees them: float32 [M, 15, H, W], 0 without data."""
        channels_last = self._memory_format == torch.channels_last
        scaled: Tensor = self.scaler(images, channels_last=channels_last)
        return scaled

    def forward_scaled(
        self, x_MCHW: Tensor, chip_of_month: Tensor, chip_count: int | None = None
    ) -> Tensor:
        """Predict from already scaled months [M, 15, H, W]; otherwise as ``forward``."""
        if chip_count is None:
            chip_count = int(chip_of_month[-1]) + 1

        # ---- Encode every month on its own ------------------------------------------------
        features = self.encode(x_MCHW)

        # ---- Pool each chip's months, level by level --------------------------------------
        months = Months.of(chip_of_month, chip_count)
        pooled = [attend(level, months) for attend, level in zip(self.attn, features, strict=True)]

        # ---- Decode to a map ---------------------------------------------------------------
        x_BCHW = self._compiled.get("decoder", self.decoder)(pooled)
        # In float32 whatever came before: a bfloat16 map would have steps of 0.5 Mg/ha and more.
        with torch.autocast(x_BCHW.device.type, enabled=False):
            agb: Tensor = self.segmentation_head(x_BCHW.to(self.segmentation_head.weight.dtype))
        return agb

    def encode(self, x_MCHW: Tensor) -> list[Tensor]:
        """Scaled months [M, 15, H, W] → their features at strides 2, 4, 8, 16, 32."""
        check_size(*x_MCHW.shape[-2:])
        encoder = self._compiled.get("encoder", self.encoder)
        features: list[Tensor] = encoder(x_MCHW.contiguous(memory_format=self._memory_format))
        return features

    def weights_never_called(self) -> list[str]:
        """Names of weights that no image ever meets: the gate before the last block's join.

        The reference's files hold them, so ours do; nothing trains them.
        """
        last = f"decoder.blocks.{len(self.decoder.blocks) - 1}.attention1."
        return [name for name in self.state_dict() if name.startswith(last)]


class BandScaler(nn.Module):
    """Stored integers, or dB and counts, to the numbers that the encoder sees, on the device.

    (value − minimum) / range. The constants are buffers: they travel with the weights, so weights
    never meet another scaling than the one they were trained with.
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

    def forward(self, images: Images, *, channels_last: bool = False) -> Tensor:
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


def check_size(height: int, width: int) -> None:
    """Refuse images that cannot be halved five times.

    Raises:
        BadInputError: Height or width is not a positive multiple of 32.
    """
    stride = STRIDES[-1]
    if height % stride or width % stride or min(height, width) < stride:
        fit = tuple(max(1, -(-size // stride)) * stride for size in (height, width))
        raise BadInputError(
            f"Expected image height and width divisible by {stride}, got {height} x {width}: "
            f"pad the images to {fit[0]} x {fit[1]}, or crop them."
        )


def _check_images(images: Images) -> None:
    for sensor in SENSORS:
        shape = list(images[sensor.name].shape) if sensor.name in images else None
        if shape is None or len(shape) != 4 or shape[1] != len(sensor.bands):
            raise BadInputError(
                f"Expected {sensor.name} images [months, {len(sensor.bands)}, height, width], "
                f"got {shape}."
            )
    shapes = {name: list(image.shape) for name, image in images.items()}
    if len({(months, *size) for months, _, *size in shapes.values()}) > 1:
        raise BadInputError(
            f"Expected {' and '.join(shapes)} images of the same months and size, got "
            f"{' and '.join(map(str, shapes.values()))}."
        )
