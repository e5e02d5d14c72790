"""Do an image's values look like the unit and the bands that they are said to be?"""

import numpy as np
from numpy.typing import NDArray

from biomassters.chips.bands import CLP_NONE, S1
from biomassters.chips.damage import DamagedFileError
from biomassters.errors import BadInputError
from biomassters.regions.band_names import CLOUD_PROBABILITY, NEEDED_S2
from biomassters.regions.grid import PixelWindow
from biomassters.regions.layers import Layer, Values

_PLACES, _PLACE_PIXELS = 4, 64  # along a side: no more is read of an image of any size
_MOST_POWER = 5.0  # linear backscatter of land stays far below
_DB_RANGE = (-80.0, 50.0)
_MOST_REFLECTANCE = 2.0
_FEWEST_PIXELS = 50


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
    by_name = dict(zip(layer.bands, found, strict=True))
    fault = (_backscatter_fault if sensor == S1.name else _counts_fault)(by_name)
    if fault:
        raise BadInputError(
            f"{layer.name} {fault}: convert the file, state its bands in "
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


def _known(values: Values) -> Values:
    return values[np.isfinite(values)]


def _backscatter_fault(bands: dict[str, Values]) -> str | None:
    found = np.concatenate([_known(values) for values in bands.values()])
    if len(found) < _FEWEST_PIXELS:
        return None
    low, high = np.percentile(found, (0.5, 99.5))
    if low >= 0 and high <= _MOST_POWER:
        return "looks like linear power, expected dB"
    if low < _DB_RANGE[0] or high > _DB_RANGE[1]:
        return f"holds values of {low:g} to {high:g}, expected backscatter in dB"
    for orbit in ("asc", "desc"):
        co, cross = bands.get(f"VV_{orbit}"), bands.get(f"VH_{orbit}")
        if co is None or cross is None:
            continue
        both = np.isfinite(co) & np.isfinite(cross)
        # Land and water alike send back less in the other polarization.
        if both.sum() >= _FEWEST_PIXELS and np.median(cross[both] - co[both]) > 0:
            return f"has VH above VV in its {orbit} bands: VV and VH look swapped"
    return None


def _counts_fault(bands: dict[str, Values]) -> str | None:
    if not any(name in bands for name in NEEDED_S2):
        return _cloud_fault(bands)
    optical = np.stack([bands[name] for name in NEEDED_S2 if name in bands])
    seen = (np.nan_to_num(optical) != 0).any(axis=0)
    found = _known(optical[:, seen])
    if len(found) >= _FEWEST_PIXELS:
        low, high = np.percentile(found, (0.5, 99.5))
        if low < -1:
            return f"holds values down to {low:g}, expected reflectance × 10,000"
        if 0 < high <= _MOST_REFLECTANCE:
            return "looks like reflectance 0-1, expected × 10,000"
    return _cloud_fault(bands) or _order_fault(bands, seen)


def _cloud_fault(bands: dict[str, Values]) -> str | None:
    if CLOUD_PROBABILITY not in bands:
        return None
    clouds = _known(bands[CLOUD_PROBABILITY])
    wrong = (clouds < 0) | ((clouds > 100) & (clouds != CLP_NONE))
    if wrong.any():
        return (
            f"holds {clouds[wrong].max():g} in CLP, expected 0 to 100 or 255: its bands look "
            "swapped"
        )
    return None


def _order_fault(bands: dict[str, Values], seen: NDArray[np.bool_]) -> str | None:
    """Neighbouring wavelengths see alike: red edge B7 and the two near infrareds B8 and B8A do."""
    names = ("B7", "B8", "B8A")
    if not all(name in bands for name in names) or seen.sum() < _FEWEST_PIXELS:
        return None
    red_edge, broad, narrow = (float(np.nanmedian(bands[name][seen])) for name in names)
    if min(red_edge, narrow) > 0 and not 0.6 < broad / (0.5 * (red_edge + narrow)) < 1.6:
        return (
            f"has a median of {broad:g} in B8 but {red_edge:g} in B7 and {narrow:g} in B8A: its "
            "bands look swapped"
        )
    return None
