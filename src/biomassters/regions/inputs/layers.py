"""Images that are read window by window, and the layout in which a plain folder holds them.

A layer is a raster file or a month of a Zarr cube (``cube``); an item collection (``stac``) lists
files. Which band of a file is which, its descriptions say. ``source`` puts the layers of a year on
the map's grid.
"""

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window

from biomassters.chips.bands import MONTH_COUNT, S2, SENSOR, SENSORS
from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import SCENE_CLASSES, canonical_name
from biomassters.imagery.pixel_grid import Grid
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.io.raster_spec import DamagedFileError
from biomassters.messages import said_by
from biomassters.regions.options import ImageOptions
from biomassters.simulation.simulated_region import SIMULATED_TAG

Values = NDArray[np.float32]
GDAL_CACHE = {"GDAL_CACHEMAX": 128 * 2**20}
_TAGS = "|".join(sensor.tag for sensor in SENSORS)
_FILE_NAME = re.compile(rf"({_TAGS})_(\d\d)\.tiff?", re.IGNORECASE)


class Layer(Protocol):
    """An image of one month and sensor; picklable, for any number of threads."""

    @property
    def name(self) -> str:
        """Path or address, for messages."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands it holds, as in ``chips.bands``, or SCL."""
        ...

    @property
    def grid(self) -> Grid:
        """Its own pixels."""
        ...

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> Values:
        """Values of a window within the grid, float32 [bands, h, w]; NaN where there is no data.

        A ``shape`` picks fewer pixels out of the window.

        Raises:
            DamagedFileError: The file can't be read.
        """
        ...


@dataclass(frozen=True)
class MonthLayers:
    """Images of one month, 0 (September) to 11; where they overlap, the first with data counts.

    ``of`` has those of every sensor, by its name.
    """

    month: int
    of: Mapping[str, tuple[Layer, ...]]

    def all(self) -> Iterator[tuple[str, Layer]]:
        """Each image, after its sensor's name."""
        for sensor, layers in self.of.items():
            for layer in layers:
                yield sensor, layer


def by_month(layers: Mapping[tuple[int, str], Sequence[Layer]]) -> list[MonthLayers]:
    """Layers by month and sensor, put together month by month."""
    return [
        MonthLayers(month, {one.name: tuple(layers.get((month, one.name), ())) for one in SENSORS})
        for month in sorted({month for month, _ in layers})
    ]


@dataclass(frozen=True)
class RasterLayer:
    """A GeoTIFF or, by its name, a JPEG 2000; a file or an address.

    Attributes:
        bands: Names of the bands that are used.
        numbers: Their numbers in the file, from 1.
    """

    name: str
    bands: tuple[str, ...]
    numbers: tuple[int, ...]
    grid: Grid
    _handles: "_Handles" = field(default_factory=lambda: _Handles(), compare=False, repr=False)

    @classmethod
    def open(
        cls, path: str, sensor: str, stated: tuple[str, ...], names: tuple[str, ...] = ()
    ) -> "RasterLayer":
        """Look at a file.

        Args:
            path: The file.
            sensor: Its name.
            stated: Names of its bands in order, for a file that doesn't say.
            names: Names that count before the file's own descriptions.

        Raises:
            BadInputError: It can't be read, lies nowhere, or has other bands.
        """
        with _open(path) as file:
            if file.crs is None:
                raise BadInputError(
                    f"{path} has no coordinate system: give it one, for instance with "
                    "'rio edit-info --crs', or leave the file out."
                )
            found = names or tuple(text or "" for text in file.descriptions)
            bands = match_bands(path, sensor, found, stated)
            grid = Grid(file.crs, file.transform, file.height, file.width)
        return cls(path, tuple(bands), tuple(bands.values()), grid)

    def says_simulated(self) -> bool:
        """Whether the file has the tag of simulated images."""
        with _open(self.name) as file:
            return bool(file.tags().get(SIMULATED_TAG) == "yes")

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> Values:
        """See ``Layer.read``."""
        try:
            with gdal_environment(**GDAL_CACHE):
                return self._read(window, shape)
        except (RasterioError, OSError) as error:
            damage = DamagedFileError(self.name, f"can't be read ({said_by(error)})")
        raise damage  # outside, for GDAL's exceptions can't be pickled

    def _read(self, window: Window, shape: tuple[int, int] | None) -> Values:
        file = self._handles.get(self.name)
        size = None if shape is None else (len(self.numbers), *shape)
        raw = file.read(list(self.numbers), window=window, out_shape=size)
        values = raw.astype(np.float32)
        for image, stored, number in zip(values, raw, self.numbers, strict=True):
            scale, offset = file.scales[number - 1], file.offsets[number - 1]
            if (scale, offset) != (1.0, 0.0):
                image[:] = image * np.float32(scale) + np.float32(offset)
            nodata = file.nodatavals[number - 1]
            if nodata is not None and not np.isnan(nodata):
                image[stored == raw.dtype.type(nodata)] = np.nan
        flags = {flag for of_band in file.mask_flag_enums for flag in of_band}
        if flags & {MaskFlags.per_dataset, MaskFlags.alpha}:
            values[:, file.dataset_mask(window=window, out_shape=shape) == 0] = np.nan
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        return RasterLayer, (self.name, self.bands, self.numbers, self.grid)


class _Handles(threading.local):
    """Each thread's own open file: GDAL's handles belong to one thread."""

    def __init__(self) -> None:
        self._file: Any = None

    def get(self, path: str) -> Any:
        if self._file is None:
            self._file = open_raster(path, images=True)
        return self._file


def _open(path: str) -> Any:
    try:
        with gdal_environment(**GDAL_CACHE):
            return open_raster(path, images=True)
    except (RasterioError, OSError) as error:
        raise BadInputError(
            f"{path} can't be opened as a raster ({said_by(error)}): fetch it again or leave it "
            "out."
        ) from error


def file_bands(sensor: str) -> tuple[str, ...]:
    """Names of the bands that are used of a sensor's files."""
    return SENSOR[sensor].bands + ((SCENE_CLASSES,) if sensor == S2.name else ())


def match_bands(
    path: str, sensor: str, found: tuple[str, ...], stated: tuple[str, ...]
) -> dict[str, int]:
    """Numbers of the bands that are used, from 1, by name.

    Args:
        path: For messages.
        sensor: Its name.
        found: What the file calls its bands, empty texts where it doesn't.
        stated: Names in order, for a file that says nothing.

    Raises:
        BadInputError: A stated order of another length, a name twice, or a band missing.
    """
    known = file_bands(sensor)
    names = [canonical_name(text) for text in found]
    if not any(name in known for name in names):
        if len(stated) != len(found):
            raise BadInputError(
                f"{path} has {len(found)} bands without a known description, but "
                f"mapping.images.{sensor}_bands lists {len(stated)}: list its bands in their order."
            )
        names = [canonical_name(text) for text in stated]
        if unknown := [text for text, name in zip(stated, names, strict=True) if name not in known]:
            raise BadInputError(
                f"mapping.images.{sensor}_bands: there is no band {unknown[0]!r}; the names are "
                f"{', '.join(known)}."
            )
    numbers: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name in numbers:
            raise BadInputError(f"{path} holds band {name} twice: rename or remove one.")
        if name is not None and name in known:
            numbers[name] = number
    return numbers


def require_bands(what: str, sensor: str, bands: set[str]) -> None:
    """Refuse an image that lacks what the network can't do without.

    Raises:
        BadInputError: Every band is missing, or one whose absence would look like a pixel of 0.
    """
    needed = SENSOR[sensor].measured if SENSOR[sensor].floor is None else ()
    missing = [name for name in needed if name not in bands]
    if missing or not bands:
        raise BadInputError(
            f"{what} lacks {', '.join(missing) or 'every band'}: describe its bands by name, or "
            f"list them in mapping.images.{sensor}_bands."
        )


def read_folder(folder: Path, options: ImageOptions) -> list[MonthLayers]:
    """What a folder of ``S1_00.tif`` … ``S2_11.tif`` holds, any subset; only headers are read.

    Raises:
        BadInputError: There is no month, a month is no month or there twice, or a file can't be
            read or lacks bands.
    """
    found: dict[tuple[int, str], list[RasterLayer]] = {}
    for path in sorted(folder.iterdir()):
        name = _FILE_NAME.fullmatch(path.name)
        if name is None:
            continue
        sensor, month = name[1].lower(), int(name[2])
        if month >= MONTH_COUNT:
            raise BadInputError(f"{path}: months are 00 (September) to 11 (August); rename it.")
        if (month, sensor) in found:
            other = found[month, sensor][0].name
            raise BadInputError(f"{path}: {other} is the same month; keep one.")
        layer = RasterLayer.open(str(path), sensor, options.bands_of(sensor))
        require_bands(str(path), sensor, set(layer.bands))
        found[month, sensor] = [layer]
    if not found:
        raise BadInputError(
            f"{folder} holds no month: expected files such as S1_00.tif (September) and S2_11.tif "
            "(August)."
        )
    return by_month(found)
