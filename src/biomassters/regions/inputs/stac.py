"""A STAC item collection (JSON): monthly mosaics, or scenes that are put together by month.

An item's month is that of its ``datetime`` or ``start_datetime``, its sensor that of its
constellation, platform, collection or id. An asset holds one band that its key names, or several
that its ``bands`` (STAC 1.1), ``eo:bands`` or the file's descriptions name.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from biomassters.chips.bands import SENSOR
from biomassters.errors import BadInputError
from biomassters.io.files import read_json
from biomassters.regions.inputs.band_names import canonical_name, require_bands
from biomassters.regions.inputs.layers import MonthLayers, RasterLayer, by_month
from biomassters.regions.options import ImageOptions

_SENSOR = re.compile(r"(?:sentinel[-_ ]?|\bs)([12])(?![0-9])", re.IGNORECASE)
_RASTER_TYPES = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")
_RASTER_NAMES = (".tif", ".tiff", ".jp2")
_STACK_KEYS = (*SENSOR, "data", "image")
_ORBITS = {"ascending": "asc", "descending": "desc"}


def read_item_collection(place: str, options: ImageOptions) -> list[MonthLayers]:
    """The months that items belong to.

    Raises:
        BadInputError: It can't be read, holds no item with images, or two years.
    """
    path = Path(place)
    layers: dict[tuple[int, str], list[RasterLayer]] = defaultdict(list)
    years = set()
    for item in _items(path):
        when, sensor = _date(item, path), _sensor(item, path)
        years.add(when.year - (when.month < 9))
        for layer in _layers(item, sensor, path, options):
            layers[(when.month - 9) % 12, sensor].append(layer)
    if len(years) > 1:
        raise BadInputError(
            f"{path} holds items of {len(years)} years from September to August (beginning in "
            f"{', '.join(map(str, sorted(years)))}): keep those of one."
        )
    if not layers:
        raise BadInputError(f"{path} holds no month: none of its items has an image asset.")
    for (month, sensor), found in layers.items():
        bands = {band for layer in found for band in layer.bands}
        require_bands(f"{path}, {sensor} of month {month:02d},", sensor, bands)
    return by_month(layers)


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


def _date(item: dict[str, Any], path: Path) -> datetime:
    text = item["properties"].get("datetime") or item["properties"].get("start_datetime")
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        raise BadInputError(
            f"{path}: item {item.get('id')} has no datetime (got {text!r}), so its "
            "month is unknown."
        ) from None


def _sensor(item: dict[str, Any], path: Path) -> str:
    texts = [item["properties"].get(name) for name in ("constellation", "platform")]
    for text in (*texts, item.get("collection"), item.get("id")):
        if text and (found := _SENSOR.search(str(text))):
            return f"s{found[1]}"
    raise BadInputError(
        f"{path}: item {item.get('id')} doesn't say whether it is Sentinel-1 or Sentinel-2: set "
        "its constellation."
    )


def _layers(
    item: dict[str, Any], sensor: str, path: Path, options: ImageOptions
) -> Iterator[RasterLayer]:
    orbit = _ORBITS.get(str(item["properties"].get("sat:orbit_state")))
    for key, asset in item["assets"].items():
        if not _is_image(asset):
            continue
        bands = asset.get("bands") or asset.get("eo:bands") or []
        names = tuple(_band_name(band, orbit) for band in bands)
        own = canonical_name(key, orbit)
        if own is not None and not any(names):
            names = (own,)
        if not names and not _is_stack(key, asset):
            continue
        href = asset["href"]
        address = href if "://" in href or href.startswith("/") else str(path.parent / href)
        layer = RasterLayer.open(address, sensor, options.bands_of(sensor), names)
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


def _band_name(band: dict[str, Any], orbit: str | None) -> str:
    for text in (band.get("name"), band.get("eo:common_name"), band.get("common_name")):
        if text and (name := canonical_name(str(text), orbit)):
            return name
    return ""
