"""A STAC item collection (JSON): monthly mosaics, or scenes that are put together by month.

An item's month is that of its ``datetime`` or ``start_datetime``, its sensor that of its
constellation, platform, collection or id. An asset holds one band that its key names, or several
that its ``bands`` (STAC 1.1), ``eo:bands`` or the file's descriptions name.
"""

import re
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from biomassters.chips.bands import SENSORS, Sensor
from biomassters.errors import BadInputError
from biomassters.io.files import read_json
from biomassters.regions.inputs.band_names import canonical_name, require_bands
from biomassters.regions.inputs.layers import RasterLayer
from biomassters.regions.inputs.month_image import MonthLayers
from biomassters.regions.options import ImageOptions

_SENSOR = re.compile(r"(?:sentinel[-_ ]?|\bs)([12])(?![0-9])", re.IGNORECASE)
_RASTER_TYPES = ("image/tiff", "image/vnd.stac.geotiff", "image/jp2")


def read_item_collection(place: str, options: ImageOptions) -> list[MonthLayers]:
    """The months that items belong to.

    Raises:
        BadInputError: It can't be read, holds no item with images, or two years.
    """
    path = Path(place)
    items = _items(path)
    layers: dict[tuple[int, str], list[RasterLayer]] = defaultdict(list)
    years = set()
    for item in items:
        when, sensor = _date(item, path), _sensor(item, path)
        years.add(when.year - (when.month < 9))
        for layer in _layers(item, sensor, path, options):
            layers[(when.month - 9) % 12, sensor.name].append(layer)
    if len(years) > 1:
        raise BadInputError(
            f"{path} holds items of {len(years)} years from September to August (beginning in "
            f"{', '.join(map(str, sorted(years)))}): keep those of one."
        )
    if not layers:
        raise BadInputError(f"{path} holds no month: none of its items has an image asset.")
    for (month, name), found in layers.items():
        bands = {band for layer in found for band in layer.bands}
        require_bands(f"{path}, {name} of month {month:02d},", name, bands)
    return [
        MonthLayers(month, *(tuple(layers.get((month, sensor.name), ())) for sensor in SENSORS))
        for month in sorted({month for month, _ in layers})
    ]


def _items(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, "give a STAC item collection")
    kind = content.get("type") if isinstance(content, dict) else None
    kind = kind if kind in ("Feature", "FeatureCollection") else None
    features = [content] if kind == "Feature" else content.get("features") if kind else None
    if not kind or not isinstance(features, list) or not features:
        raise BadInputError(
            f"{path} is no STAC item collection: expected a FeatureCollection with items."
        )
    for item in features:
        _check_item(item, path)
    return features


def _check_item(item: Any, path: Path) -> None:
    """The parts that are read have the types that STAC gives them."""
    _expect(item, dict, path, "an item", "an object")
    what = f"item {str(item.get('id'))[:80]}"
    _expect(item.get("properties"), dict, path, f"the properties of {what}", "an object")
    _expect(item.get("assets"), dict, path, f"the assets of {what}", "an object")
    for key, asset in item["assets"].items():
        of_asset = f"asset {str(key)[:80]} of {what}"
        _expect(asset, dict, path, of_asset, "an object")
        _expect(asset.get("href"), str, path, f"the href of {of_asset}", "a text")
        for bands in (asset.get("bands") or [], asset.get("eo:bands") or []):
            _expect(bands, list, path, f"the bands of {of_asset}", "a list")
            for band in bands:
                _expect(band, dict, path, f"a band of {of_asset}", "an object")


def _expect(value: Any, kind: type, path: Path, what: str, called: str) -> None:
    if not isinstance(value, kind):
        found = "missing" if value is None else f"no {called.split()[-1]}"
        raise BadInputError(f"{path}: {what} is {found}, expected {called}: mend the collection.")


def _date(item: dict[str, Any], path: Path) -> datetime:
    properties = item.get("properties", {})
    text = properties.get("datetime") or properties.get("start_datetime")
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        raise BadInputError(
            f"{path}: item {item.get('id')} has no datetime (got {text!r}), so its "
            "month is unknown."
        ) from None


def _sensor(item: dict[str, Any], path: Path) -> Sensor:
    properties = item.get("properties", {})
    texts = [properties.get("constellation"), properties.get("platform")]
    for text in (*texts, item.get("collection"), item.get("id")):
        if text and (found := _SENSOR.search(str(text))):
            return SENSORS[int(found[1]) - 1]
    raise BadInputError(
        f"{path}: item {item.get('id')} doesn't say whether it is Sentinel-1 or Sentinel-2: set "
        "its constellation."
    )


def _layers(
    item: dict[str, Any], sensor: Sensor, path: Path, options: ImageOptions
) -> list[RasterLayer]:
    stated = {"s1": options.s1_bands, "s2": options.s2_bands}[sensor.name]
    orbit_state = str(item["properties"].get("sat:orbit_state", ""))
    orbit = {"ascending": "asc", "descending": "desc"}.get(orbit_state)
    found = []
    for key, asset in item.get("assets", {}).items():
        if not _is_image(asset):
            continue
        names = tuple(_band_name(band, orbit) for band in _bands(asset))
        own = canonical_name(key, orbit)
        if not any(names) and own is not None:
            names = (own,)
        if own is None and not names and not _is_stack(key, asset):
            continue
        layer = RasterLayer.open(_address(asset["href"], path), sensor.name, stated, names)
        if layer.bands:
            found.append(layer)
    return found


def _is_image(asset: dict[str, Any]) -> bool:
    kind = str(asset.get("type") or "")
    return kind.startswith(_RASTER_TYPES) or (
        not kind and asset.get("href", "").lower().endswith((".tif", ".tiff", ".jp2"))
    )


def _is_stack(key: str, asset: dict[str, Any]) -> bool:
    """Whether an asset that names no band is the image itself, not a preview of it."""
    roles = asset.get("roles") or []
    roles = roles if isinstance(roles, list) else [roles]
    return "data" in roles or (not roles and key.lower() in ("s1", "s2", "data", "image"))


def _bands(asset: dict[str, Any]) -> list[dict[str, Any]]:
    return list(asset.get("bands") or asset.get("eo:bands") or [])


def _band_name(band: dict[str, Any], orbit: str | None) -> str:
    for text in (band.get("name"), band.get("eo:common_name"), band.get("common_name")):
        if text and (name := canonical_name(str(text), orbit)):
            return name
    return ""


def _address(href: str, path: Path) -> str:
    """An absolute address or path; relative ones are relative to the collection."""
    return href if "://" in href or href.startswith("/") else str(path.parent / href)
