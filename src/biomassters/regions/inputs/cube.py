"""A Zarr cube of a region, with the chip store's conventions; a folder or an address.

Arrays ``s1`` int16 [month, s1_band, y, x] in 0.01 dB (−32768: no data) and ``s2`` uint16
[month, s2_band, y, x] in counts; ``present`` bool [month, sensor]; the attributes ``crs`` (WKT or
EPSG:…) and ``transform`` (six affine coefficients, pixel to map units) say where it lies.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.transform import Affine
from rasterio.windows import Window

from biomassters.chips.bands import MONTH_COUNT, SENSOR_OF_BAND, SENSORS
from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import Grid
from biomassters.io.files import IrregularFileError, irregular
from biomassters.io.gdal import parse_crs
from biomassters.io.raster_spec import DamagedFileError
from biomassters.io.storage import ELSEWHERE, client_options, leads_elsewhere, require_bucket, stay
from biomassters.regions.inputs.layers import MonthLayers, Values, by_month

# zarr and obstore are imported where they are used: few regions are cubes.

_DTYPES = {sensor.name: sensor.packed_dtype.name for sensor in SENSORS} | {"present": "bool"}
_MOST_CHUNKS = 100_000  # of a row or column: zarr goes through them all, whatever is asked of it
_MOST_CHUNK_BYTES = 256 * 2**20  # a chunk is decoded whole, however little is asked of it


@dataclass(frozen=True)
class CubeLayer:
    """One month, 0 (September) to 11, of the array of a sensor at an address."""

    name: str
    bands: tuple[str, ...]
    grid: Grid
    array: str
    month: int
    _opened: list[Any] = field(default_factory=list, compare=False, repr=False)

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> Values:
        """See ``layers.Layer.read``."""
        height, width = shape or (window.height, window.width)
        rows, columns = (
            slice(start, start + size, max(1, size // max(1, count)))
            for start, size, count in (
                (window.row_off, window.height, height),
                (window.col_off, window.width, width),
            )
        )
        try:
            raw = np.asarray(self._zarr()[self.month, :, rows, columns])
        except Exception as error:  # codecs raise whatever they like at damaged bytes
            raise DamagedFileError(self.name, f"can't be read ({error})") from None
        values = raw.astype(np.float32)
        sensor = SENSOR_OF_BAND[self.bands[0]]
        if sensor.floor is not None:
            values *= np.float32(sensor.scale)
            values[raw == sensor.fill] = np.nan
        return values

    def _zarr(self) -> Any:
        if not self._opened:
            import zarr

            place, _, name = self.array.rpartition("/")
            self._opened.append(zarr.open_array(_zarr_store(place), path=name, mode="r"))
        return self._opened[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return CubeLayer, (self.name, self.bands, self.grid, self.array, self.month)


def is_cube(place: str) -> bool:
    """Whether a Zarr group lies at a path or address."""
    return place.rstrip("/").endswith(".zarr") or any(
        (Path(place) / name).is_file() for name in ("zarr.json", ".zgroup")
    )


def read_cube(place: str) -> list[MonthLayers]:
    """The months of a cube in a folder or at an address of s3://, gs://, az:// or https://.

    Raises:
        BadInputError: There is no cube, it lies nowhere, or its arrays have other shapes.
    """
    group = _open_group(place)
    arrays = {name: group[name] for name in _DTYPES if _has(group, name, place)}
    shapes = {name: getattr(array, "shape", ()) for name, array in arrays.items()}
    sizes = {shapes[sensor.name][-2:] for sensor in SENSORS if sensor.name in shapes}
    if len(sizes) != 1 or len(next(iter(sizes))) != 2:
        raise BadInputError(
            f"{place}: expected arrays {' and '.join(one.name for one in SENSORS)} "
            "[month, band, y, x] of the same size, "
            f"got {shapes}."
        )
    for name, array in arrays.items():
        _check_array(f"{place}/{name}", array, _DTYPES[name])
    grid = _grid(place, dict(group.attrs), *sizes.pop())
    layers = {}
    for month, number in np.argwhere(_present(group, shapes)).tolist():
        sensor = SENSORS[number]
        array = f"{place.rstrip('/')}/{sensor.name}"
        name = f"{array}, month {month:02d},"
        layers[month, sensor.name] = [CubeLayer(name, sensor.bands, grid, array, month)]
    return by_month(layers)


def _open_group(place: str) -> Any:
    import zarr

    if "://" not in place:
        _check_files(Path(place))
    with _refused(f"{place} is no Zarr group", "give the cube's path"):
        return zarr.open_group(_zarr_store(place), mode="r")


def _has(group: Any, name: str, place: str) -> bool:
    """Whether an array is there, and is one."""
    with _refused(f"{place}/{name} is no Zarr array", "write the cube anew"):
        return name in group and bool(group[name].name)


@contextmanager
def _refused(what: str, remedy: str) -> Iterator[None]:
    """Zarr and its stores raise whatever they like at what isn't theirs, some of it late."""
    try:
        yield
    except BadInputError:
        raise
    except Exception as error:
        raise BadInputError(f"{what} ({_reason(error)}): {remedy}.") from None


def _reason(error: Exception) -> str:
    if leads_elsewhere(error):
        return ELSEWHERE
    said = " ".join(str(error).split()).partition("Debug source")[0][:200].rstrip(" :.")
    return said or type(error).__name__


def _zarr_store(place: str) -> Any:
    """What zarr reads a folder or an address through; a silent address is given up."""
    if "://" not in place:
        return place
    from obstore.store import from_url
    from zarr.storage import ObjectStore

    scheme = place.partition("://")[0]
    if scheme not in ("http", "https", "s3", "gs", "az"):
        raise BadInputError(
            f"{place} can't be opened: give a folder or an address of s3://, gs://, az:// or "
            "https://."
        )
    require_bucket(place)
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    plain = (place if scheme.startswith("http") else endpoint).startswith("http:")
    client: Any = {**client_options(), **stay(place), "allow_http": plain}
    store: Any = from_url(place, client_options=client, retry_config={"max_retries": 1})
    return ObjectStore(store, read_only=True)


def _check_files(folder: Path) -> None:
    """Only files and folders: a pipe among the chunks would be waited for."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = f"{parent}/{name}"
            if (kind := irregular(path)) is not None:
                raise IrregularFileError(path, kind)


def _check_array(name: str, array: Any, dtype: str) -> None:
    if str(array.dtype) != dtype:
        raise BadInputError(f"{name} holds {array.dtype}, expected {dtype}: convert the cube.")
    size = int(np.prod(array.chunks, dtype=float)) * array.dtype.itemsize
    fault = None
    if size > _MOST_CHUNK_BYTES:
        fault = f"chunks of {size / 2**20:,.0f} MiB"
    elif any(
        length > _MOST_CHUNKS * chunk
        for length, chunk in zip(array.shape, array.chunks, strict=True)
    ):
        fault = f"a shape of {array.shape} in chunks of {array.chunks}"
    if fault:
        raise BadInputError(f"{name} has {fault}: write it in chunks of one month and 512 pixels.")


def _grid(place: str, attributes: dict[str, Any], height: int, width: int) -> Grid:
    try:
        crs = parse_crs(attributes["crs"], f"{place}, its attribute crs")
        transform = Affine(*map(float, attributes["transform"][:6]))
        if not np.isfinite(transform).all() or transform.is_degenerate:
            raise TypeError
    except BadInputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError):
        raise BadInputError(
            f"{place} doesn't say where it lies: give the group the attributes crs (as in "
            "EPSG:3067) and transform (six affine coefficients)."
        ) from None
    return Grid(crs, transform, int(height), int(width))


def _present(group: Any, shapes: dict[str, tuple[int, ...]]) -> NDArray[np.bool_]:
    """Bool [12, sensors]; without the array of that name, every month is there."""
    found = np.zeros((MONTH_COUNT, len(SENSORS)), bool)
    for number, sensor in enumerate(SENSORS):
        shape = shapes.get(sensor.name)
        if shape is not None and shape[:2] != (MONTH_COUNT, len(sensor.bands)):
            raise BadInputError(
                f"{sensor.name} has shape {shape}; expected [{MONTH_COUNT}, {len(sensor.bands)}, "
                "y, x]: one entry a month and band, in the order of the chip store."
            )
        found[:, number] = shape is not None
    if "present" not in shapes:
        return found
    if shapes["present"] != found.shape:
        raise BadInputError(f"present has shape {shapes['present']}; expected {found.shape}.")
    return found & np.asarray(group["present"])
