"""One image, or a part of one, that can be read window by window."""

import threading
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biomassters.errors import BadInputError
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.io.raster_spec import DamagedFileError
from biomassters.regions.grid import Grid, PixelWindow
from biomassters.regions.inputs.band_names import match_bands
from biomassters.simulation.simulated_region import SIMULATED_TAG

Values = NDArray[np.float32]
GDAL_CACHE = {"GDAL_CACHEMAX": 128 * 2**20}


class Layer(Protocol):
    """An image of one month and sensor; picklable, for any number of threads.

    Attributes:
        name: For messages.
        bands: Names of the bands it holds, as in ``chips.bands``, or SCL.
        grid: Its own pixels.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def bands(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def grid(self) -> Grid: ...  # noqa: D102
    def read(self, window: PixelWindow, shape: tuple[int, int] | None = None) -> Values:
        """Values of a window within the grid, float32 [bands, h, w]; NaN where there is no data.

        Args:
            window: Which pixels.
            shape: Fewer pixels to pick out of the window.

        Raises:
            DamagedFileError: The file can't be read.
        """
        ...


@dataclass(frozen=True)
class RasterLayer:
    """A GeoTIFF or, by its name, a JPEG 2000; a file or an address.

    Attributes:
        name: Path or address.
        bands: Names of the bands that are used.
        numbers: Their numbers in the file, from 1.
        grid: Its pixels.
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
            sensor: ``"s1"`` or ``"s2"``.
            stated: Names of its bands in order, for a file that doesn't say.
            names: Names that count before the file's own descriptions.

        Raises:
            BadInputError: It can't be read, lies nowhere, or has other bands.
        """
        file = _open(path)
        with file:
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

    def read(self, window: PixelWindow, shape: tuple[int, int] | None = None) -> Values:
        """See ``Layer.read``."""
        import rasterio

        damage: DamagedFileError | None = None
        try:
            with gdal_environment(**GDAL_CACHE):
                return self._read(window, shape)
        except (rasterio.errors.RasterioError, OSError) as error:
            # rasterio itself says only "see previous exception".
            cause = " ".join(str(error.__cause__ or error).split()).rstrip(".")
            damage = DamagedFileError(self.name, f"can't be read ({cause})")
        raise damage  # outside, for GDAL's exceptions can't be pickled

    def _read(self, window: PixelWindow, shape: tuple[int, int] | None) -> Values:
        from rasterio.windows import Window

        file = self._handles.get(self.name)
        place = Window(window.left, window.top, window.width, window.height)
        numbers = list(self.numbers)
        size = None if shape is None else (len(numbers), *shape)
        raw = file.read(numbers, window=place, out_shape=size)
        values = raw.astype(np.float32)
        for index, number in enumerate(numbers):
            nodata = file.nodatavals[number - 1]
            absent = (
                None if nodata is None or np.isnan(nodata) else raw[index] == raw.dtype.type(nodata)
            )
            scale, offset = file.scales[number - 1], file.offsets[number - 1]
            if (scale, offset) != (1.0, 0.0):
                values[index] = values[index] * np.float32(scale) + np.float32(offset)
            if absent is not None:
                values[index][absent] = np.nan
        if _has_mask(file):
            values[:, file.dataset_mask(window=place, out_shape=shape) == 0] = np.nan
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


def _has_mask(file: Any) -> bool:
    from rasterio.enums import MaskFlags

    return any(
        MaskFlags.per_dataset in flags or MaskFlags.alpha in flags for flags in file.mask_flag_enums
    )


def _open(path: str) -> Any:
    import rasterio

    try:
        with gdal_environment(**GDAL_CACHE):
            return open_raster(path, images=True)
    except (rasterio.errors.RasterioError, OSError) as error:
        message = " ".join(str(error).split()).rstrip(".")
        raise BadInputError(
            f"{path} can't be opened as a raster ({message}): fetch it again or leave it out."
        ) from error
