"""A STAC item collection (JSON): scenes that are put together by month, or monthly mosaics.

An item with a file for each band is a scene, and is read by the rules of ``imagery``: which asset
is which band, offsets, clouds, the order of scenes. An item with one file of several bands, which
its ``bands`` (STAC 1.1), ``eo:bands`` or the file's descriptions name, is a month's mosaic, and its
file is read as one of a folder. An item's month is that of its ``datetime`` or ``start_datetime``,
its sensor that of its constellation, platform, collection or id.
"""

import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.windows import Window

from biomassters.chips.bands import S1, S2, SENSOR
from biomassters.chips.pixel_checks import image_unit_fault
from biomassters.errors import BadInputError
from biomassters.imagery.area import StatedArea
from biomassters.imagery.asset_names import canonical_name
from biomassters.imagery.catalogues import presets
from biomassters.imagery.composites import Offsets, coarse_grid, compose_s1, compose_s2
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.pixel_grid import Grid
from biomassters.imagery.scene_choice import choose_scenes, footprint
from biomassters.imagery.scene_reader import SceneError
from biomassters.imagery.scenes import (
    Scene,
    UnusableItemError,
    band_names_of,
    date_of,
    first_year_of,
    make_absolute,
    month_of,
    scene_of,
    sensor_of,
    without_duplicates,
)
from biomassters.io.files import read_json
from biomassters.io.raster_spec import DamagedFileError
from biomassters.regions.inputs.layers import (
    MonthLayers,
    RasterLayer,
    Values,
    by_month,
    require_bands,
)
from biomassters.regions.options import ImageOptions

log = logging.getLogger(__name__)
_RASTER_TYPES = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
_RASTER_NAMES = (".tif", ".tiff", ".jp2")
_ORBITS = {"ascending": "asc", "descending": "desc"}
_STACK_KEYS = (*SENSOR, "data", "image")
_THREADS = 4
_CHECKED_PIXELS = 64  # a side, of all that a month shows


@dataclass(frozen=True)
class SceneComposite:
    """A month of one sensor, made of scenes while it is read; picklable, for any threads."""

    name: str
    bands: tuple[str, ...]
    grid: Grid
    scenes: tuple[Scene, ...]
    offsets: Offsets = field(compare=False)
    _lost: set[str] = field(default_factory=set, compare=False)

    def read(self, window: Window, shape: tuple[int, int] | None = None) -> Values:
        """See ``layers.Layer.read``; a scene of which a file is gone is named and left out."""
        part = self.grid.part(window)
        part = part if shape is None else part.resized(*shape)
        while True:
            scenes = [scene for scene in self.scenes if scene.id not in self._lost]
            try:
                if self.bands == S2.bands:
                    counts = compose_s2(scenes, part, self.offsets.of).values
                    values = counts.astype(np.float32)
                    values[:, (counts[:-1] == 0).all(axis=0)] = np.nan
                    return values
                angle = ImageryOptions().incidence_angle_deg
                steps = compose_s1(scenes, part, angle).values
                values = steps.astype(np.float32) * np.float32(S1.scale)
                values[steps == S1.fill] = np.nan
                return values
            except SceneError as error:
                if error.kind != "gone":
                    raise DamagedFileError(error.file, error.fault) from None
                self._lost.add(error.scene)
                log.warning("Scene %s is left out: %s.", error.scene, error)


def read_item_collection(
    place: str, options: ImageOptions, area: StatedArea | None = None
) -> list[MonthLayers]:
    """The months that items belong to.

    Args:
        place: The file.
        options: Bands of mosaics that don't name them.
        area: Scenes are composed for; None: all that they show.

    Raises:
        BadInputError: It can't be read, holds no item with images, or two years.
    """
    path = Path(place)
    layers: dict[tuple[int, str], list[RasterLayer | SceneComposite]] = defaultdict(list)
    scenes: list[Scene] = []
    years = set()
    for item in _items(path):
        try:
            when, sensor = date_of(item), sensor_of(item)
        except BadInputError as error:
            raise BadInputError(f"{path}: {error}") from None
        years.add(first_year_of(when))
        make_absolute(item, path.parent)
        of_item = list(_scenes(item, sensor))
        scenes += of_item
        if not of_item:
            layers[month_of(when), sensor] += _mosaics(item, sensor, options)
    if len(years) > 1:
        raise BadInputError(
            f"{path} holds items of {len(years)} years from September to August (beginning in "
            f"{', '.join(map(str, sorted(years)))}): keep those of one."
        )
    for key, composite in _composites(scenes, area, path, options):
        layers[key].append(composite)
    layers = {key: found for key, found in layers.items() if found}
    if not layers:
        raise BadInputError(f"{path} holds no month: none of its items has an image asset.")
    for (month, sensor), found in layers.items():
        bands = {band for layer in found for band in layer.bands}
        require_bands(f"{path}, {sensor} of month {month:02d},", sensor, bands)
    return by_month(layers)


def _scenes(item: dict[str, Any], sensor: str) -> Iterator[Scene]:
    """The scene that an item is; two where its keys name both orbits of Sentinel-1."""
    assets = item["assets"]
    catalogue = next((one for one in presets() if one.matches(sensor, item)), None)
    parts = [item]
    if sensor == S1.name and item["properties"].get("sat:orbit_state") is None:
        named = {key: canonical_name(str(key)) or "" for key in assets}
        parts = [
            {
                **item,
                "properties": {**item["properties"], "sat:orbit_state": state},
                "assets": {key: assets[key] for key in assets if named[key].endswith(orbit)},
            }
            for orbit, state in (("_asc", "ascending"), ("_desc", "descending"))
        ]
    for part in parts:
        try:
            yield scene_of(part, catalogue)
        except UnusableItemError as error:
            if error.names_bands:
                log.warning("Item %s is left out: it %s.", item.get("id"), error)


def _composites(
    scenes: list[Scene], area: StatedArea | None, path: Path, options: ImageOptions
) -> Iterator[tuple[tuple[int, str], SceneComposite]]:
    if not scenes:
        return
    scenes, _ = without_duplicates(scenes)
    with ThreadPoolExecutor(_THREADS) as pool:
        choice = choose_scenes(scenes, area or footprint(scenes, pool.map), each=pool.map)
    offsets = Offsets(coarse_grid(choice.grid))
    offsets.settle_unstated(one for month in choice.scenes.values() for one in month)
    for (month, sensor), kept in choice.scenes.items():
        # Whatever signatures the addresses have, the same scenes are the same images.
        identity = json.dumps([scene.identity() for scene in kept]).encode()
        digest = hashlib.sha256(identity).hexdigest()[:8]
        name = f"{path}, {sensor} of month {month:02d} ({len(kept)} scenes, {digest})"
        composite = SceneComposite(name, SENSOR[sensor].bands, choice.grid, kept, offsets)
        if options.check_ranges and not all(scene.known_catalogue for scene in kept):
            _check(composite, sensor)
        yield (month, sensor), composite


def _check(composite: SceneComposite, sensor: str) -> None:
    """Refuse bands that look swapped, by a small picture of what no catalogue vouches for."""
    height, width = composite.grid.shape
    size = min(height, _CHECKED_PIXELS), min(width, _CHECKED_PIXELS)
    try:
        values = composite.read(Window(0, 0, width, height), size)
    except DamagedFileError:
        return  # it costs the blocks that need it
    flat = values.reshape(len(composite.bands), -1)
    fault = image_unit_fault(sensor, dict(zip(composite.bands, flat, strict=True)))
    if fault is not None:
        raise BadInputError(
            f"{composite.name} {fault.reason}: {fault.remedy}, or set "
            "mapping.images.check_ranges to false."
        )


def _items(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, "give a STAC item collection")
    found = None
    if isinstance(content, dict) and content.get("type") in ("Feature", "FeatureCollection"):
        found = [content] if content["type"] == "Feature" else content.get("features")
    if not isinstance(found, list) or not found:
        raise BadInputError(
            f"{path} is no STAC item collection: expected a FeatureCollection with items."
        )
    for item in found:
        _check_item(item, path)
    return found


def _check_item(item: Any, path: Path) -> None:
    """The parts that are read have the types that STAC gives them."""

    def expect(value: Any, kind: type, what: str, called: str = "an object") -> None:
        if not isinstance(value, kind):
            found = "missing" if value is None else f"no {called.split()[-1]}"
            raise BadInputError(
                f"{path}: {what} is {found}, expected {called}: mend the collection."
            )

    expect(item, dict, "an item")
    what = f"item {str(item.get('id'))[:80]}"
    for part in ("properties", "assets"):
        expect(item.get(part), dict, f"the {part} of {what}")
    for key, asset in item["assets"].items():
        of_asset = f"asset {str(key)[:80]} of {what}"
        expect(asset, dict, of_asset)
        expect(asset.get("href"), str, f"the href of {of_asset}", "a text")
        for bands in (asset.get("bands") or [], asset.get("eo:bands") or []):
            expect(bands, list, f"the bands of {of_asset}", "a list")
            for band in bands:
                expect(band, dict, f"a band of {of_asset}")


def _mosaics(item: dict[str, Any], sensor: str, options: ImageOptions) -> Iterator[RasterLayer]:
    """Files of several bands; one that names a single band belongs to a scene, or to nothing."""
    orbit = _ORBITS.get(str(item["properties"].get("sat:orbit_state")))
    for key, asset in item["assets"].items():
        names = band_names_of(asset, orbit)
        single = len(names) == 1 or canonical_name(str(key), "asc") is not None
        if single or not _is_image(asset) or not (any(names) or _is_stack(key, asset)):
            continue
        layer = RasterLayer.open(asset["href"], sensor, options.bands_of(sensor), names)
        if layer.bands:
            yield layer


def _is_image(asset: dict[str, Any]) -> bool:
    kind = str(asset.get("type") or "")
    return kind.startswith(_RASTER_TYPES) if kind else asset["href"].lower().endswith(_RASTER_NAMES)


def _is_stack(key: str, asset: dict[str, Any]) -> bool:
    """Whether an asset that names no band is the image itself, not a preview of it."""
    roles = asset.get("roles") or []
    roles = roles if isinstance(roles, list) else [roles]
    return "data" in roles or (not roles and key.lower() in _STACK_KEYS)
