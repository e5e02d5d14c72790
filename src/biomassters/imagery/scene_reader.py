"""A band of a scene on any grid, over ranges of HTTP, from object storage or from files.

Only the window that is asked for is read, from an overview where the grid is coarser. Where the
file's pixels are the grid's, or a whole number of times as large, pixels are copied: bilinear 20 m
bands would make 1,781 and 1,969 of a checker of 1,500 and 2,250. Across UTM zones they are
interpolated (nearest errs by 6.4 counts there, bilinear by 0.9). What an item says of its grid is
not believed: wrong numbers give silent zeros.
"""

import logging
import re
import threading
import time
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.warp import reproject
from rasterio.windows import Window

from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import CLOUD_PROBABILITY, SCENE_CLASSES
from biomassters.imagery.catalogues import without_query
from biomassters.imagery.pixel_grid import Grid, bounds_between, clipped
from biomassters.imagery.scenes import Scene
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.io.storage import is_url
from biomassters.messages import said_by

log = logging.getLogger(__name__)

MOST_OPEN = 16  # a thread
_SETTINGS = {
    "GDAL_CACHEMAX": 48 * 2**20,  # hardly a tile is read twice
    "GDAL_HTTP_MAX_RETRY": 4,  # 429, 500, 502, 503, 504 and broken connections
    "GDAL_HTTP_RETRY_DELAY": 1,
    "GDAL_INGESTED_BYTES_AT_OPEN": 32_768,  # a COG's header in one request
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}
_PAUSES_S = (0.0, 1.0)  # before a file that failed is opened again
_CATEGORIES = (SCENE_CLASSES, CLOUD_PROBABILITY)
_KINDS = {
    "gone": re.compile(r"\b(404|410)\b|does not exist|No such file"),
    "refused": re.compile(r"\b(401|403)\b|Access ?Denied|InvalidCredentials", re.IGNORECASE),
    "network": re.compile(
        r"CURL error|response code: (429|5\d\d)|timed out|resolve host|connect", re.IGNORECASE
    ),
}
_SAME = 1e-3  # pixels
_MARGIN = 3  # pixels of a file around a window that is interpolated


class SceneError(Exception):
    """A file of a scene that can't be read.

    Attributes:
        scene: Its id.
        file: Its address, without signature.
        fault: What is wrong with it, as the end of a sentence.
        kind: ``"gone"``: there is none; ``"damaged"``; ``"refused"`` or ``"network"``, which other
            scenes will meet as well.
    """

    def __init__(self, scene: str, file: str, fault: str, kind: str = "damaged") -> None:
        super().__init__(f"{file} {fault}")
        self.scene, self.file, self.fault, self.kind = scene, file, fault, kind

    def __reduce__(self) -> tuple[Any, ...]:
        return SceneError, (self.scene, self.file, self.fault, self.kind)

    @property
    def of_scene(self) -> bool:
        """Whether the scene alone is at fault, so that the next one can take its place."""
        return self.kind in ("gone", "damaged")


class _Files(threading.local):
    """Each thread's own open files, the latest ones: GDAL's handles belong to one thread."""

    def __init__(self) -> None:
        self.open: OrderedDict[str, Any] = OrderedDict()


class _Tally:
    """Bytes of pixels that were read, of all threads."""

    def __init__(self) -> None:
        self.bytes, self._lock = 0, threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self.bytes += count


_files, tally = _Files(), _Tally()


def close_files() -> None:
    """Close what this thread has open."""
    while _files.open:
        _files.open.popitem()[1].close()


def grid_of(scene: Scene, band: str) -> Grid:
    """The pixels of a band's file; errors as of ``read_band``."""

    def look(file: Any) -> Grid:
        return Grid(file.crs, file.transform, file.height, file.width)

    return _with_file(scene, band, look)


def tags_of(scene: Scene, band: str) -> tuple[float, float]:
    """Scale and offset in a file's tags; 1 and 0 where it has none."""
    return _with_file(scene, band, lambda file: (file.scales[0], file.offsets[0]))


def read_band(scene: Scene, band: str, grid: Grid) -> NDArray[Any]:
    """A band in the pixels of a grid.

    Returns:
        [h, w] in the file's own type and counts: whole numbers with 0 for no data; Sentinel-1
        float32 with NaN.

    Raises:
        SceneError: The file can't be read, or lies in radar geometry.
    """
    return _with_file(scene, band, lambda file: _on_grid(file, grid, band in _CATEGORIES))


def _with_file(scene: Scene, band: str, use: Any) -> Any:
    """Call something with an open file; it is opened and signed again where that fails."""
    address = scene.files[band]
    name = without_query(address)
    with gdal_environment(**_SETTINGS):
        for attempt in range(len(_PAUSES_S) + 1):
            try:
                if name not in _files.open:
                    signed = scene.signing.sign(address, anew=attempt > 0)
                    _files.open[name] = _opened(signed, scene.id, name)
                    while len(_files.open) > MOST_OPEN:
                        _files.open.popitem(last=False)[1].close()
                _files.open.move_to_end(name)
                return use(_files.open[name])
            except (RasterioError, OSError) as error:
                said = _said(error)
            except BadInputError as error:
                said = str(error)
            broken = _files.open.pop(name, None)
            if broken is not None:
                broken.close()
            kind = next((one for one, words in _KINDS.items() if words.search(said)), "damaged")
            if kind == "gone" or attempt == len(_PAUSES_S) or not is_url(address):
                break
            time.sleep(_PAUSES_S[attempt])
    faults = {"gone": "is not there", "refused": "may not be read: access is refused"}
    raise SceneError(scene.id, name, faults.get(kind, f"can't be read ({said})"), kind)


def _opened(address: str, scene: str, name: str) -> Any:
    file = open_raster(address, images=True)
    if file.crs is None:
        points = bool(file.gcps[0])
        file.close()
        raise SceneError(
            scene, name,
            "lies in radar geometry (ground control points alone): take terrain-corrected scenes, "
            "as with imagery.s1_catalogue=planetary-computer" if points
            else "has no coordinate system",
        )  # fmt: skip
    return file


def _said(error: Exception) -> str:
    """GDAL's own words, without the address that it repeats with its signature."""
    return re.sub(r"(/vsi\S+|\S+://\S+)", lambda found: without_query(found[0]), said_by(error))


def _on_grid(file: Any, grid: Grid, category: bool) -> NDArray[Any]:
    dtype = np.dtype(file.dtypes[0])
    empty = np.nan if dtype.kind == "f" else 0
    out = np.full(grid.shape, empty, np.float32 if dtype.kind == "f" else dtype)
    if file.crs == grid.crs and _upright(file.transform) and _upright(grid.transform):
        rows = _numbers(grid.transform.f, grid.transform.e, grid.height,
                        file.transform.f, file.transform.e, file.height)  # fmt: skip
        columns = _numbers(grid.transform.c, grid.transform.a, grid.width,
                           file.transform.c, file.transform.a, file.width)  # fmt: skip
        if rows is not None and columns is not None:
            _copy(file, rows, columns, out)
            return out
    _interpolate(file, grid, category, out)
    return out


def _upright(transform: Any) -> bool:
    return bool(transform.b == transform.d == 0)


class _Numbers:
    """Along one axis, the file's pixel at the centre of each of the grid's.

    Attributes:
        place: Where in the grid they begin and end, as far as the file reaches.
        first, count: Of the file's pixels that are needed.
        at: Of those, the one at each place.
        step: The file's pixels in one of the grid's.
    """

    def __init__(self, at: NDArray[np.int64], size: int, step: float) -> None:
        inside = np.flatnonzero((at >= 0) & (at < size))
        self.step = step
        self.place = slice(inside[0], inside[-1] + 1) if inside.size else slice(0, 0)
        at = at[self.place]
        self.first, self.count = (int(at[0]), int(at[-1] - at[0] + 1)) if at.size else (0, 0)
        self.at = at - self.first


def _numbers(
    start: float, step: float, count: int, file_start: float, file_step: float, file_count: int
) -> _Numbers | None:
    """None where pixels of the two fit neither one to one nor a whole number of times."""
    ratio = step / file_step  # the file's pixels in one of the grid's
    shift = (start - file_start) / file_step
    if ratio <= 0:
        return None
    if ratio < 2 - _SAME:
        times = 1 / ratio
        whole = abs(times - round(times)) * count < 1 and times > 1 - _SAME
        if not whole or abs(shift * times - round(shift * times)) > 10 * _SAME:
            return None
    centres = shift + (np.arange(count) + 0.5) * ratio
    return _Numbers(np.floor(centres + _SAME * ratio).astype(np.int64), file_count, ratio)


def _copy(file: Any, rows: _Numbers, columns: _Numbers, out: NDArray[Any]) -> None:
    """Pixels as they are; from an overview where only some of them are wanted."""
    if not rows.count or not columns.count:
        return
    window = Window(columns.first, rows.first, columns.count, rows.count)
    shape = tuple(
        max(1, int(np.ceil(axis.count / axis.step))) if axis.step >= 2 - _SAME else axis.count
        for axis in (rows, columns)
    )
    raw = _raw(file, window, shape, out.dtype)
    at = [
        np.minimum((axis.at + 0.5) * size / axis.count, size - 1).astype(np.int64)
        if size != axis.count else axis.at
        for axis, size in zip((rows, columns), shape, strict=True)
    ]  # fmt: skip
    place = out[rows.place, columns.place]
    times = [len(one) // size for one, size in zip(at, shape, strict=True)]
    if all(
        np.array_equal(one, np.arange(size * k) // max(k, 1))
        for one, size, k in zip(at, shape, times, strict=True)
    ):  # whole pixels, each as often as the next: an eighth of the time that indices take
        for axis in (1, 0):
            raw = raw.repeat(times[axis], axis) if times[axis] > 1 else raw
        place[:] = raw
    else:
        place[:] = raw[at[0]][:, at[1]]


def _raw(file: Any, window: Window, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    """Counts of a window with what the file calls no data as 0 or NaN."""
    raw = file.read(1, window=window, out_shape=shape)
    tally.add(raw.nbytes)
    raw = raw.astype(dtype, copy=False)
    empty = np.nan if dtype.kind == "f" else 0
    nodata = file.nodatavals[0]
    if nodata is not None and not np.isnan(nodata) and nodata != empty:
        raw[raw == dtype.type(nodata)] = empty
    flags = file.mask_flag_enums[0]
    if MaskFlags.per_dataset in flags or MaskFlags.alpha in flags:
        raw[file.dataset_mask(window=window, out_shape=shape) == 0] = empty
    return raw


def _interpolate(file: Any, grid: Grid, category: bool, out: NDArray[Any]) -> None:
    own = Grid(file.crs, file.transform, file.height, file.width)
    wanted = own.window_of(bounds_between(grid.crs, own.crs, grid.bounds))
    around = Window(wanted.col_off - _MARGIN, wanted.row_off - _MARGIN,
                    wanted.width + 2 * _MARGIN, wanted.height + 2 * _MARGIN)  # fmt: skip
    window = clipped(around, *own.shape)
    if window is None:
        return
    ratio = max(1, int(min(wanted.width / grid.width, wanted.height / grid.height)))
    shape = (max(1, window.height // ratio), max(1, window.width // ratio))
    raw = _raw(file, window, shape, out.dtype)
    part = own.part(window).resized(*shape)
    empty = np.nan if out.dtype.kind == "f" else 0
    reproject(
        raw, out, src_transform=part.transform, src_crs=part.crs, src_nodata=empty,
        dst_transform=grid.transform, dst_crs=grid.crs, dst_nodata=empty, num_threads=1,
        resampling=Resampling.nearest if category else Resampling.bilinear,
    )  # fmt: skip
