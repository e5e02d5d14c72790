"""Images taken from other positions: a map of positions is made once and used for many images.

All months of a chip, and its label, move alike. So which four pixels make a new one, and how much
each counts, is computed once; an image is then a weighted sum of rows of a table, a pixel a row.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag


class Resampler:
    """Takes images of one size from positions that are an affine function of the pixel's.

    Beyond its border an image is continued by its mirror image.

    Attributes:
        total_weight: What ``bilinear`` makes of ones, [height, width]: 1, but for rounding.

    Args:
        source: [2, 3], takes (y, x, 1) of a new pixel to (y, x) of its position in the image.
            Coordinates count pixels, the first one's centre is 0.
        height: Of the images, pixels.
        width: Of the images, pixels.
        device: Where they are.
    """

    def __init__(
        self, source: NDArray[np.float64], height: int, width: int, device: torch.device
    ) -> None:
        y, x = _positions(source, height, width, device)
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
    source: NDArray[np.float64], height: int, width: int, device: torch.device
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
        positions.append(_mirrored((in_unit + 1.0) * (side / 2) - 0.5, side))
    return positions[0], positions[1]


def _mirrored(position: Tensor, side: int) -> Tensor:
    """Positions beyond the outer edges of the outermost pixels, mirrored there."""
    from_edge = (position + 0.5).abs() % (2 * side)
    return (torch.minimum(from_edge, 2 * side - from_edge) - 0.5).clamp(0, side - 1)


def _flat(row: Tensor, column: Tensor, width: int) -> Tensor:
    """Place in the flattened image, int64 [height · width]."""
    return (row.long() * width + column.long()).flatten()
