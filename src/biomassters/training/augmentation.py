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
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import grid_sample

from biomassters.chips.bands import BAND_NAMES, S2
from biomassters.training.sampling import Sample


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
    x_MCHW: Tensor, agb_BHW: Tensor, samples: Sequence[Sample], *, loss_limit: float
) -> tuple[Tensor, Tensor]:
    """Flip, turn and rotate chips and their labels as their samples say.

    Args:
        x_MCHW: Scaled images [M, 15, h, w], the months of the first sample, then those of
            the second, and so on.
        agb_BHW: Labels [B, h, w], Mg/ha.
        samples: One per chip; the crop has been made.
        loss_limit: Labels at or above it are left out of the loss, Mg/ha.

    Returns:
        New tensors of the same shapes. Where a rotated label rests on pixels that are left
        out of the loss it is ``loss_limit``, and so is left out as well.
    """
    assert len(x_MCHW) == sum(len(sample.months) for sample in samples)
    x_out, agb_out = torch.empty_like(x_MCHW), torch.empty_like(agb_BHW)
    start = 0
    for index, sample in enumerate(samples):
        rows = slice(start, start + len(sample.months))
        start = rows.stop
        if sample.rotation_deg == 0.0:
            x_out[rows] = _moved(x_MCHW[rows], sample)
            agb_out[index] = _moved(agb_BHW[index], sample)
        else:
            grid = _grid(sample, x_MCHW)
            x_out[rows] = _rotated_images(x_MCHW[rows], grid)
            agb_out[index] = _rotated_label(agb_BHW[index], grid, loss_limit)
    return x_out, agb_out


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


def _grid(sample: Sample, like: Tensor) -> Tensor:
    """Sampling positions [1, h, w, 2] as ``grid_sample`` wants them: (x, y) in −1 … 1."""
    height, width = like.shape[-2:]
    # ((2 p + 1) / side − 1) takes pixel p to the unit in which −1 and 1 are the image's edges.
    to_unit = np.array([[0.0, 2.0 / width], [2.0 / height, 0.0]])
    source = to_unit @ _source(sample, height, width)
    source[:, 2] += [1.0 / width - 1.0, 1.0 / height - 1.0]
    matrix = torch.tensor(source, dtype=torch.float32, device=like.device)
    rows = torch.arange(height, dtype=torch.float32, device=like.device)
    columns = torch.arange(width, dtype=torch.float32, device=like.device)
    along_y = rows[:, None, None] * matrix[:, 0]
    along_x = columns[None, :, None] * matrix[:, 1]
    return (along_y + along_x + matrix[:, 2])[None]


def _sampled(image_NCHW: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return grid_sample(
        image_NCHW,
        grid.expand(len(image_NCHW), -1, -1, -1),
        mode=mode,
        padding_mode="reflection",
        align_corners=False,
    )


def _inverse_weight(weight: Tensor) -> Tensor:
    """1 / weight where pixels with data have at least half of the weight, else 0."""
    return torch.where(weight >= 0.5, 1.0 / weight, 0.0)


def _rotated_images(x_MCHW: Tensor, grid: Tensor) -> Tensor:
    """All months of one chip, [m, 15, h, w], on one grid."""
    rotated = _sampled(x_MCHW, grid)
    groups = [x_MCHW[:, group].abs().amax(dim=1) > 0 for group in DATA_GROUPS]
    factor = _inverse_weight(_sampled(torch.stack(groups, dim=1).to(x_MCHW.dtype), grid))
    for index, group in enumerate(DATA_GROUPS):
        rotated[:, group] *= factor[:, index, None]
    rotated[:, CLOUD] = _sampled(x_MCHW[:, CLOUD], grid, mode="nearest")
    return rotated


def _rotated_label(agb_HW: Tensor, grid: Tensor, loss_limit: float) -> Tensor:
    counted = agb_HW < loss_limit
    pair = torch.stack([torch.where(counted, agb_HW, 0.0), counted.to(agb_HW.dtype)])
    agb, weight = _sampled(pair[None], grid)[0]
    return torch.where(weight >= 0.5, agb / weight, loss_limit)
