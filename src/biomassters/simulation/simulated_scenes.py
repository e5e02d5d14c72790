"""The months of a simulated region as scenes, with the traps that real catalogues have.

Several scenes a month: clouds, swaths that end with zeros and no nodata tag, 1,000 counts on top
since baseline 04.00 and none before, Sentinel-1 as linear gamma0. ``imagery`` composes them again,
to what the region's own images show wherever a scene is clear.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from biomassters.chips.bands import MONTH_COUNT, PIXEL_SIZE_M, S1, S2
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.io.files import publish_folder
from biomassters.io.gdal import gdal_environment, open_raster
from biomassters.simulation.options import SceneSimulationOptions
from biomassters.simulation.random_fields import Window, normal, smooth
from biomassters.simulation.simulated_region import NOTE

CATALOGUE = "catalogue.yml"
ITEMS = "items.json"
INCIDENCE_DEG = 38.5  # the middle of Sentinel-1's IW swath
_KEYS = {"B2": "B02", "B3": "B03", "B4": "B04", "B5": "B05", "B6": "B06", "B7": "B07",
         "B8": "B08", "B8A": "B8A", "B11": "B11", "B12": "B12"}  # fmt: skip
_COARSE = ("B5", "B6", "B7", "B8A", "B11", "B12")  # served in pixels of 20 m
_OFFSET = 1000
_BASELINES = ("05.09", "05.09", "02.14")  # in turn
_CLOUD_GRAIN = 24.0  # pixels
_CLOUD_COUNTS = 7000
_PLANTS, _CLOUDS, _SNOW = 4, 9, 11  # scene classes
_SWATH_EVERY = 3  # of how many scenes one ends within the region
_LOOKS = 4.0
_TILE = 512
_OVERVIEWS = (2, 4, 8)
_NODATA = -32768.0


def write_scenes(images: Path, folder: Path, options: SceneSimulationOptions) -> None:
    """Write scenes of a simulated region, their items, and the description of this catalogue.

    The folder takes its name when everything is written.

    Raises:
        BadInputError: There is no simulated region, or the folder holds something else.
    """
    if not (images / NOTE).is_file():
        raise BadInputError(
            f"{images} holds no simulated region: run '--pipelines region_simulation' first."
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / NOTE).is_file():
        raise BadInputError(
            f"{folder} holds files that were not simulated: choose another folder with "
            "'--params scenes_root=FOLDER'."
        )
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    items: list[dict[str, Any]] = []
    with gdal_environment(GDAL_CACHEMAX=64 * 2**20), Progress("writing scenes", 12) as progress:
        for month in range(MONTH_COUNT):
            for name, write in (("S2", _optical), ("S1", _radar)):
                path = images / f"{name}_{month:02d}.tif"
                if path.is_file():
                    items += write(path, partial, month, options)
            progress.update()
    content = {"type": "FeatureCollection", "features": items}
    (partial / ITEMS).write_text(json.dumps(content))
    (partial / CATALOGUE).write_text(_description())
    (partial / NOTE).write_text("{}\n")
    publish_folder(partial, folder)


def _description() -> str:
    bands = ", ".join(f"{band}: {key}" for band, key in _KEYS.items())
    return (
        f"url: {ITEMS}\n"
        f"s2: {{collection: simulated-s2, classes: SCL, clouds: CLD, bands: {{{bands}}}}}\n"
        "s1: {collection: simulated-s1, bands: {VV: vv, VH: vh}, unit: power, reference: gamma0}\n"
    )


def _optical(
    path: Path, folder: Path, month: int, options: SceneSimulationOptions
) -> Iterator[dict[str, Any]]:
    with open_raster(path) as file:
        counts, place = file.read(), (file.crs, file.transform)
    known = (counts[:-1] != 0).any(axis=0)
    window = Window(0, 0, *known.shape)
    views = _views(window, month, options)
    for number, (cloud, within) in enumerate(views):
        seen = known & within
        baseline = _BASELINES[(month + number) % len(_BASELINES)]
        shift = _OFFSET if baseline >= "04.00" else 0
        scene = f"S2_{month:02d}_{number}"
        (folder / scene).mkdir()
        assets = {}
        for band, key in _KEYS.items():
            image = counts[S2.bands.index(band)].astype(np.float32)
            image = np.where(cloud, _CLOUD_COUNTS + 3 * number, image)
            pixel = PIXEL_SIZE_M
            there = seen
            if band in _COARSE:
                image, there, pixel = _halved(image), seen[::2, ::2], 2 * PIXEL_SIZE_M
            stored = np.where(there, np.rint(image) + shift, 0).astype(np.uint16)
            assets[key] = _written(folder / scene / f"{key}.tif", stored, place, pixel)
        ground = np.where(counts[0] > _OFFSET, _SNOW, _PLANTS)  # past the swath as well
        classes = np.where(cloud | (counts[-1] > 50), _CLOUDS, ground)
        percent = np.where(cloud, 95, np.minimum(counts[-1], 100))
        for key, values in (("SCL", classes), ("CLD", percent)):
            coarse = np.ascontiguousarray(values[::2, ::2]).astype(np.uint8)
            file_name = folder / scene / f"{key}.tif"
            assets[key] = _written(file_name, coarse, place, 2 * PIXEL_SIZE_M)
        yield _item(
            scene, "simulated-s2", _when(options.year, month, 4 + 9 * number, 9), assets, place,
            known.shape, constellation="sentinel-2", **{"s2:processing_baseline": baseline},
        )  # fmt: skip


def _views(
    window: Window, month: int, options: SceneSimulationOptions
) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Clouds and swath of each scene of a month; every place is clear in one of them at least.

    So the composite can be the region's own image everywhere, and what it lacks is the fault of
    the composition.
    """
    shape = window.shape
    columns = np.arange(shape[1])[None] + 0.2 * np.arange(shape[0])[:, None]
    views = []
    for number in range(options.optical_scenes):
        field = smooth(window, options.seed, "scene clouds", month, number, grain=_CLOUD_GRAIN)
        # Clouds end where the 20 m pixels do in which scene classes tell of them.
        whole = np.kron(field[::2, ::2], np.ones((2, 2)))[: shape[0], : shape[1]]
        share = options.cloud_share
        cloud = whole > (np.inf if share == 0 else ndtri(1 - share))
        short = number > 0 and (month + number) % _SWATH_EVERY == 0
        views.append((cloud, columns < (0.7 * shape[1] if short else np.inf)))
    elsewhere = np.zeros(shape, bool)
    for cloud, within in views[1:]:
        elsewhere |= within & ~cloud
    views[0] = (views[0][0] & elsewhere, views[0][1])
    return views


def _halved(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Means of 2 × 2 pixels; a last odd row or column stands for its pair."""
    even = np.pad(image, [(0, size % 2) for size in image.shape], mode="edge")
    return even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean(axis=(1, 3))


def _radar(
    path: Path, folder: Path, month: int, options: SceneSimulationOptions
) -> Iterator[dict[str, Any]]:
    with open_raster(path) as file:
        steps, place = file.read(), (file.crs, file.transform)
        scale, nodata = file.scales[0], file.nodatavals[0]
    gamma0 = 10 ** (steps * np.float32(scale) / 10) / np.cos(np.deg2rad(INCIDENCE_DEG))
    gamma0[steps == nodata] = np.nan
    window = Window(0, 0, *steps.shape[1:])
    for orbit, state in (("asc", "ascending"), ("desc", "descending")):
        bands = {name: S1.bands.index(f"{name.upper()}_{orbit}") for name in ("vv", "vh")}
        if not np.isfinite(gamma0[list(bands.values())]).any():
            continue
        # Speckle whose mean over the month's scenes is 1: their composite is the region's image.
        draws = normal(window, options.seed, "scene speckle", month, orbit,
                       count=2 * options.radar_scenes)  # fmt: skip
        factors = np.exp(draws.reshape(options.radar_scenes, 2, *window.shape) / np.sqrt(_LOOKS))
        factors /= factors.mean(axis=0)
        for number in range(options.radar_scenes):
            scene = f"S1_{month:02d}_{orbit}_{number}"
            (folder / scene).mkdir()
            assets = {}
            for index, (key, band) in enumerate(bands.items()):
                values = np.nan_to_num(gamma0[band] * factors[number, index], nan=_NODATA)
                file_name = folder / scene / f"{key}.tif"
                assets[key] = _written(
                    file_name, values.astype(np.float32), place, PIXEL_SIZE_M, _NODATA
                )
            hour = 16 if orbit == "asc" else 4
            yield _item(
                scene, "simulated-s1", _when(options.year, month, 2 + 8 * number, hour), assets,
                place, steps.shape[1:], constellation="sentinel-1", **{"sat:orbit_state": state},
            )  # fmt: skip


def _when(year: int, month: int, day: int, hour: int) -> str:
    number = (month + 8) % MONTH_COUNT + 1
    return f"{year + (number < 9)}-{number:02}-{min(day, 28):02}T{hour:02}:50:31Z"


def _written(
    path: Path, values: NDArray[Any], place: tuple[Any, Any], pixel: float,
    nodata: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a tiled GeoTIFF with overviews; its asset."""
    from rasterio.enums import Resampling
    from rasterio.transform import Affine

    crs, transform = place
    with open_raster(
        path, "w", count=1, dtype=values.dtype, nodata=nodata, height=values.shape[0],
        width=values.shape[1], crs=crs, tiled=True, blockxsize=_TILE, blockysize=_TILE,
        transform=Affine(pixel, 0, transform.c, 0, -pixel, transform.f), compress="zstd",
        zstd_level=1, predictor=3 if values.dtype.kind == "f" else 2,
    ) as file:  # fmt: skip
        file.write(values, 1)
        file.build_overviews(_OVERVIEWS, Resampling.nearest)
    kind = "image/tiff; application=geotiff; profile=cloud-optimized"
    return {"href": f"./{path.parent.name}/{path.name}", "type": kind, "roles": ["data"]}


def _item(
    name: str, collection: str, when: str, assets: dict[str, Any], place: tuple[Any, Any],
    shape: tuple[int, ...], **properties: Any,
) -> dict[str, Any]:  # fmt: skip
    from rasterio.crs import CRS
    from rasterio.transform import array_bounds
    from rasterio.warp import transform_bounds

    crs, transform = place
    bounds = array_bounds(*shape, transform)
    west, south, east, north = transform_bounds(crs, CRS.from_epsg(4326), *bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature", "stac_version": "1.0.0", "stac_extensions": [], "id": name,
        "collection": collection, "links": [], "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "assets": assets,
        "properties": {"datetime": when, "biomassters:simulated": True, **properties},
    }  # fmt: skip
