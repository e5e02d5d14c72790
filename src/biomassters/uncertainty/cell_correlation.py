"""How alike the errors of two square cells are: the mean over their pairs of pixels."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from biomassters.uncertainty.error_model import ErrorModel


def cell_correlation(
    model: ErrorModel, pixel_size_m: float, side: int, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Mean correlation of a pixel of one cell and a pixel of another, less what always lasts.

    Args:
        model: Its curve of correlation by distance.
        pixel_size_m: Distance between neighbouring pixels.
        side: Pixels of a cell's side.
        shape: Rows and columns of cells in the region.

    Returns:
        float64 [rows + reach, columns + reach], by displacement: at [i, j] that of cells i rows
        and j columns apart, negative ones counted from the end as an FFT does; less the curve's
        last value, so that it is 0 beyond. At [0, 0] that of two different pixels of one cell.
    """
    reach = int(np.ceil(model.distance_m[-1] / pixel_size_m / side)) + 1
    rows, columns = (min(reach, size - 1) for size in shape)
    near = _near(model, pixel_size_m, side, rows, columns)
    kernel = np.zeros((shape[0] + rows, shape[1] + columns))
    for i in range(-rows, rows + 1):
        for j in range(-columns, columns + 1):
            kernel[i, j] = near[abs(i), abs(j)]
    return kernel


def convolved(x_HW: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over all cells weighted by the kernel of their displacement, [H, W]."""
    height, width = x_HW.shape
    spectrum = np.fft.rfft2(x_HW, s=kernel.shape) * np.fft.rfft2(kernel)
    found: NDArray[np.float64] = np.fft.irfft2(spectrum, s=kernel.shape)[:height, :width]
    return found


@lru_cache(maxsize=4)  # the same for every square kilometre of a map
def _near(
    model: ErrorModel, pixel_size_m: float, side: int, rows: int, columns: int
) -> NDArray[np.float64]:
    """By rows and columns apart, [rows + 1, columns + 1]."""
    return np.array(
        [[_mean(model, pixel_size_m, side, i, j) for j in range(columns + 1)]
         for i in range(rows + 1)]
    )  # fmt: skip


def _mean(model: ErrorModel, pixel_size_m: float, side: int, row: int, column: int) -> float:
    """Of all pairs of pixels of two cells, by their offsets and how many pairs have each."""
    offsets = np.arange(1 - side, side)
    pairs = (side - np.abs(offsets)).astype(np.float64)
    weight = np.outer(pairs, pairs)
    distance = np.hypot(
        (row * side + offsets)[:, None] * pixel_size_m, (column * side + offsets) * pixel_size_m
    )
    if row == column == 0:
        weight[distance == 0] = 0.0
    mean = (weight * model.correlation_at(distance)).sum() / weight.sum()
    return float(mean) - model.correlation[-1]
