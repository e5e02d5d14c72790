"""Chips varied on the device, after scaling: flips, quarter turns, one arbitrary rotation.

Flips and quarter turns move pixels and change no value. The arbitrary rotation samples all
months of a chip, and its label, on one grid that holds the chip's flip and quarter turns as
well, so that no image is copied twice. It is bilinear, and beyond its border a chip is
continued by its mirror image, as in the reference recipe. Three things must not be mixed
with their neighbours by that interpolation:

- Pixels without data, which are 0 after scaling. Each orbit and the optical bands are
  interpolated from the pixels that hold data, and are without data where those have less
  than half of the weight.
- Cloud probability, whose 255 means "none": it is taken from the nearest pixel.
- Label pixels that the loss leaves out. An outlier of 5,000 Mg/ha that lends a twentieth of
  its value to a pixel of 100 would make it 345, which the loss would believe.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from biomassters.chips.bands import BAND_NAMES, MONTH_COUNT, S2
from biomassters.loading.samples import Sample
from biomassters.training.resampling import Resampler


def _channels(first: str, last: str) -> slice:
    return slice(BAND_NAMES.index(first), BAND_NAMES.index(last) + 1)


DATA_GROUPS = (
    _channels("VV_asc", "VH_asc"),
    _channels("VV_desc", "VH_desc"),
    _channels(S2.bands[0], S2.bands[-2]),
)
"""Bands that hold data together or not at all: a pixel of a group without data is all 0."""

CLOUD = _channels("CLP", "CLP")


def augment(
    scaled: Callable[[slice], Tensor],
    agb_BHW: Tensor,
    samples: Sequence[Sample],
    *,
    loss_limit: float,
) -> tuple[Tensor, Tensor]:
    """Flip, turn and rotate chips and their labels as their samples say.

    Args:
        scaled: Gives the scaled images [m, 15, h, w] of some months, float32. They are numbered
            through the batch: those of the first sample, then those of the second, and so on.
        agb_BHW: Labels [B, h, w], Mg/ha.
        samples: One per chip; the crop has been made.
        loss_limit: Labels at or above it are left out of the loss, Mg/ha.

    Returns:
        Images [M, 15, h, w], channels last, and new labels. Where a rotated label rests on
        pixels that are left out of the loss it is ``loss_limit``, and so is left out as well.
    """
    shape = (sum(len(sample.months) for sample in samples), len(BAND_NAMES), *agb_BHW.shape[1:])
    x_out = torch.empty(shape, device=agb_BHW.device, memory_format=torch.channels_last)
    agb_out = torch.empty_like(agb_BHW)
    # One image at a time never leaves the processor's cache; a GPU wants more work at once.
    at_once = 1 if x_out.device.type == "cpu" else MONTH_COUNT
    start = 0
    for index, sample in enumerate(samples):
        end = start + len(sample.months)
        rotation = _rotation(sample, agb_BHW)
        for first in range(start, end, at_once):
            rows = slice(first, min(first + at_once, end))
            x_out[rows] = _changed(scaled(rows), sample, rotation)
        agb_out[index] = _changed_label(agb_BHW[index], sample, rotation, loss_limit)
        start = end
    return x_out, agb_out


def _rotation(sample: Sample, like: Tensor) -> Resampler | None:
    """All changes of a sample that holds an arbitrary rotation; None without one."""
    if sample.rotation_deg == 0.0:
        return None
    height, width = like.shape[-2:]
    return Resampler(_source(sample, height, width), height, width, like.device)


def _changed(x_MCHW: Tensor, sample: Sample, rotation: Resampler | None) -> Tensor:
    if rotation is None:
        return _moved(x_MCHW.contiguous(memory_format=torch.channels_last), sample)
    return _rotated_images(x_MCHW, rotation)


def _changed_label(
    agb_HW: Tensor, sample: Sample, rotation: Resampler | None, loss_limit: float
) -> Tensor:
    if rotation is None:
        return _moved(agb_HW, sample)
    return _rotated_label(agb_HW, rotation, loss_limit)


def _moved(image: Tensor, sample: Sample) -> Tensor:
    """Flip and quarter turns of [..., h, w] by indexing."""
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


def _inverse_weight(weight: Tensor) -> Tensor:
    """1 / weight where pixels with data have at least half of the weight, else 0."""
    return torch.where(weight >= 0.5, 1.0 / weight, 0.0)


def _rotated_images(x_MCHW: Tensor, rotation: Resampler) -> Tensor:
    """Months of one chip, [m, 15, h, w], turned alike."""
    rotated = rotation.bilinear(x_MCHW)
    if x_MCHW.device.type == "cpu" and _is_even(x_MCHW):  # a GPU would have to be waited for
        rotated *= 1.0 / rotation.total_weight
    else:
        groups = [x_MCHW[:, group].abs().amax(dim=1) > 0 for group in DATA_GROUPS]
        has_data = torch.stack(groups, dim=1).to(x_MCHW.dtype)
        factor = _inverse_weight(rotation.bilinear(has_data))
        for index, group in enumerate(DATA_GROUPS):
            rotated[:, group] *= factor[:, index, None]
    rotated[:, CLOUD] = rotation.nearest(x_MCHW[:, CLOUD])
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
