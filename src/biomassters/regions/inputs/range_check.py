"""Some places of an image of any size, looked at before it is mapped."""

import numpy as np

from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import DamagedFileError
from biomassters.regions.grid import PixelWindow
from biomassters.regions.inputs.layers import Layer, Values

_PLACES, _PLACE_PIXELS = 4, 64  # along a side: no more is read of an image of any size


def check_ranges(layer: Layer, sensor: str) -> None:
    """Refuse an image in another unit or with swapped bands.

    Args:
        layer: The image; only some places of it are read. Damage there is no matter here: it
            costs the blocks that need it.
        sensor: ``"s1"`` or ``"s2"``.

    Raises:
        BadInputError: With what the values look like and what was expected.
    """
    found = _sample(layer)
    if found is None:
        return
    fault = image_unit_fault(sensor, dict(zip(layer.bands, found, strict=True)))
    if fault is not None:
        raise BadInputError(
            f"{layer.name} {fault.reason}: {fault.remedy}, state its bands in "
            f"mapping.images.{sensor}_bands, or set mapping.images.check_ranges to false."
        )


def _sample(layer: Layer) -> Values | None:
    """Values of some places, float32 [bands, pixels]; None where none of them can be read."""
    rows, columns = (_places(size) for size in layer.grid.shape)
    found = []
    for top, height in rows:
        for left, width in columns:
            try:
                values = layer.read(PixelWindow(top, left, height, width))
            except DamagedFileError:
                continue
            found.append(values.reshape(len(layer.bands), -1))
    return np.concatenate(found, axis=1) if found else None


def _places(size: int) -> list[tuple[int, int]]:
    """Where along an axis pixels are read, and how many."""
    if size <= _PLACES * _PLACE_PIXELS:
        return [(0, size)]
    starts = np.linspace(0, size - _PLACE_PIXELS, _PLACES).astype(int)
    return [(int(start), _PLACE_PIXELS) for start in starts]
