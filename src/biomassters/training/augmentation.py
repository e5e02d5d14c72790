"""Chips varied on the device, after scaling: flips, quarter turns, one arbitrary rotation.

``augment`` varies a batch as its samples say, ``Resampler`` takes images from other positions.

Flips and quarter turns move pixels and change no value. The arbitrary rotation samples all
months of a chip, and its label, on one grid that holds the chip's flip and quarter turns as
well, so that no image is copied twice. It is bilinear, and beyond its border a chip is
continued by its mirror image. Three things must not be mixed
with their neighbours by that interpolation:

- Pixels without data, which are 0 after scaling. Each orbit and the optical bands are
  interpolated from the pixels that hold data, and are without data where those have less
  than half of the weight.
- Cloud probability, whose 255 means "none": it is taken from the nearest pixel.
- Label pixels that the loss leaves out. An outlier of 5,000 Mg/ha that lends a twentieth of
  its value to a pixel of 100 would make it 345, which the loss would believe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from biomassters.chips.bands import BAND_NAMES, BANDS, MONTH_COUNT, SENSORS, channels
from biomassters.loading.samples import Sample

DATA_GROUPS = tuple(channels(group) for sensor in SENSORS for group in sensor.groups)
"""Bands that hold data together or not at all: a pixel of a group without data is all 0."""

AS_THEY_ARE = tuple(channels((band.name,)) for band in BANDS if band.none is not None)
"""Bands that are never averaged, such as cloud probability."""


def augment(
    scaled: Callable[[slice], Tensor],
    agb_BHW: Tensor,
    samples: Sequence[Sample],
    *,
    loss_limit: float,
    border: str = "symmetric",
) -> tuple[Tensor, Tensor]:
    """Flip, turn and rotate chips and their labels as their samples say.

    Args:
        scaled: Gives the scaled images [m, 15, h, w] of some months, float32. They are numbered
            through the batch: those of the first sample, then those of the second, and so on.
        agb_BHW: Labels, Mg/ha.
        samples: One per chip; the crop has been made.
        loss_limit: Labels at or above it are left out of the loss, Mg/ha.
        border: As ``AugmentationOptions.border``.

    Returns:
        Images [M, 15, h, w], channels last, and new labels. Where a rotated label rests on
        pixels that are left out of the loss it is ``loss_limit``, and so is left out as well.
    """
    height, width = agb_BHW.shape[1:]
    shape = (sum(len(sample.months) for sample in samples), len(BAND_NAMES), height, width)
    x_out = torch.empty(shape, device=agb_BHW.device, memory_format=torch.channels_last)
    agb_out = torch.empty_like(agb_BHW)
    # One image at a time never leaves the processor's cache; a GPU wants more work at once.
    at_once = 1 if x_out.device.type == "cpu" else MONTH_COUNT
    start = 0
    for index, sample in enumerate(samples):
        end = start + len(sample.months)
        rotation = None
        if sample.rotation_deg != 0.0:
            source = _source(sample, height, width)
            rotation = Resampler(source, height, width, agb_BHW.device, border)
        for first in range(start, end, at_once):
            rows = slice(first, min(first + at_once, end))
            x_MCHW = scaled(rows)
            if rotation is None:
                x_MCHW = x_MCHW.contiguous(memory_format=torch.channels_last)
                x_out[rows] = _flipped_and_turned(x_MCHW, sample)
            else:
                x_out[rows] = _rotated_images(x_MCHW, rotation)
        if rotation is None:
            agb_out[index] = _flipped_and_turned(agb_BHW[index], sample)
        else:
            agb_out[index] = _rotated_label(agb_BHW[index], rotation, loss_limit)
        start = end
    return x_out, agb_out


def _flipped_and_turned(image: Tensor, sample: Sample) -> Tensor:
    """[..., h, w], by indexing."""
    flipped = image.flip(-1) if sample.flip else image
    return torch.rot90(flipped, sample.quarter_turns, (-2, -1))


def _inverse_turn(degrees: float, centre_y: float, centre_x: float) -> NDArray[np.float64]:
    """Where a counter-clockwise turn takes its pixels from: [3, 3] on (y, x, 1), y downwards."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    there, back = np.eye(3), np.eye(3)
    there[:2, 2] = -centre_y, -centre_x
    back[:2, 2] = centre_y, centre_x
    return back @ turn @ there


def _source(sample: Sample, height: int, width: int) -> NDArray[np.float64]:
    """[2, 3] that takes (y, x, 1) of an augmented pixel to (y, x) of the pixel it comes from.

    Coordinates count pixels, the first one's centre is 0. The last change is undone first.
    """
    centre_y, centre_x = (
        fraction * side - 0.5
        for fraction, side in zip(sample.centre_yx, (height, width), strict=True)
    )
    unrotate = _inverse_turn(sample.rotation_deg, centre_y, centre_x)
    unturn = _inverse_turn(90.0 * sample.quarter_turns, (height - 1) / 2, (width - 1) / 2)
    unflip = np.eye(3)
    if sample.flip:
        unflip[1] = 0.0, -1.0, width - 1.0
    return (unflip @ unturn @ unrotate)[:2]


def _rotated_images(x_MCHW: Tensor, rotation: Resampler) -> Tensor:
    """Months of one chip, [m, 15, h, w], turned alike."""
    rotated = rotation.bilinear(x_MCHW)
    if x_MCHW.device.type == "cpu" and _is_even(x_MCHW):  # a GPU would have to be waited for
        rotated *= 1.0 / rotation.total_weight
    else:
        groups = [x_MCHW[:, group].abs().amax(dim=1) > 0 for group in DATA_GROUPS]
        has_data = torch.stack(groups, dim=1).to(x_MCHW.dtype)
        weight = rotation.bilinear(has_data)
        factor = torch.where(weight >= 0.5, 1.0 / weight, 0.0)
        for index, group in enumerate(DATA_GROUPS):
            rotated[:, group] *= factor[:, index, None]
    for band in AS_THEY_ARE:
        rotated[:, band] = rotation.nearest(x_MCHW[:, band])
    return rotated


def _is_even(x_MCHW: Tensor) -> bool:
    """Whether each group has data in every pixel of these images, or in none.

    Seen at a glance: the first band is nowhere 0, or all are 0 everywhere.
    """
    groups = (x_MCHW[:, group] for group in DATA_GROUPS)
    return all(bool(group[:, 0].all()) or not group.abs().amax() for group in groups)


def _rotated_label(agb_HW: Tensor, rotation: Resampler, loss_limit: float) -> Tensor:
    counted = agb_HW < loss_limit
    pair = torch.stack([torch.where(counted, agb_HW, 0.0), counted.to(agb_HW.dtype)])
    agb, weight = rotation.bilinear(pair[None])[0]
    return torch.where(weight >= 0.5, agb / weight, loss_limit)


class Resampler:
    """Takes images of one size from positions that are an affine function of the pixel's.

    Beyond its border an image is continued by its mirror image. All months of a chip, and its
    label, move alike: which four pixels make a new one, and how much each counts, is computed
    once, and an image is then a weighted sum of rows of a table, a pixel a row. On one core, twelve
    months of 256 pixels, one image at a time: 44 ms, by ``grid_sample`` 76 ms (2026-11-26).

    Attributes:
        total_weight: What ``bilinear`` makes of ones, [height, width]: 1, but for rounding.

    Args:
        source: [2, 3], takes (y, x, 1) of a new pixel to (y, x) of its position in the image.
            Coordinates count pixels, the first one's centre is 0.
        height: Of the images, pixels.
        width: Of the images, pixels.
        device: Where they are.
        border: ``"symmetric"``: the outermost pixels are repeated; ``"reflect"``: they aren't.
    """

    def __init__(
        self,
        source: NDArray[np.float64],
        height: int,
        width: int,
        device: torch.device,
        border: str = "symmetric",
    ) -> None:
        y, x = _positions(source, height, width, device, border)
        top, left = y.floor(), x.floor()
        bottom, right = (top + 1).clamp(max=height - 1), (left + 1).clamp(max=width - 1)
        down, along = y - top, x - left
        corners = [(top, left), (top, right), (bottom, left), (bottom, right)]
        up, back = 1 - down, 1 - along
        weights = [up * back, up * along, down * back, down * along]
        self._corners = torch.stack([_flat(*corner, width).int() for corner in corners], dim=-1)
        self._weights = torch.stack(weights, dim=-1).view(-1, 4)
        self.total_weight = weights[0] + weights[1] + weights[2] + weights[3]
        self._nearest = _flat(y.round(), x.round(), width)

    def bilinear(self, image_NCHW: Tensor) -> Tensor:
        """Bilinear interpolation, float32; one image comes out channels last."""
        count, channels, height, width = image_NCHW.shape
        table = image_NCHW.permute(2, 3, 0, 1).contiguous().view(height * width, -1)
        taken = embedding_bag(self._corners, table, per_sample_weights=self._weights, mode="sum")
        return taken.view(height, width, count, channels).permute(2, 3, 0, 1)

    def nearest(self, image_NHW: Tensor) -> Tensor:
        """The pixel nearest to each position."""
        return image_NHW.flatten(1).index_select(1, self._nearest).view_as(image_NHW)


def _positions(
    source: NDArray[np.float64], height: int, width: int, device: torch.device, border: str
) -> tuple[Tensor, Tensor]:
    """Rows and columns of the positions, each [height, width] and within the image.

    They are computed in the unit in which −1 and 1 are the image's edges, where float32 is as
    precise for large images as for small ones.
    """
    rows = torch.arange(height, dtype=torch.float32, device=device)[:, None]
    columns = torch.arange(width, dtype=torch.float32, device=device)
    positions = []
    for along, side in zip(source, (height, width), strict=True):
        per_row, per_column, offset = along * 2.0 / side + [0.0, 0.0, 1.0 / side - 1.0]
        in_unit = (rows * per_row + columns * per_column) + offset
        position = (in_unit + 1.0) * (side / 2) - 0.5
        # Mirrored at the outer edges of the outermost pixels, or at their centres.
        edge, length = (0.5, side) if border == "symmetric" else (0.0, max(1, side - 1))
        from_edge = (position + edge).abs() % (2 * length)
        mirrored = torch.minimum(from_edge, 2 * length - from_edge) - edge
        positions.append(mirrored.clamp(0, side - 1))
    return positions[0], positions[1]


def _flat(row: Tensor, column: Tensor, width: int) -> Tensor:
    """Place in the flattened image, int64 [height · width]."""
    return (row.long() * width + column.long()).flatten()
