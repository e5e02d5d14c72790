"""Scenes out of STAC items: sensor, month, orbit, the files of its bands, what its metadata state.

An item whose bands lie in one file each is a scene; which asset is which band is the catalogue's
word (``catalogues``) or, for items of no known catalogue, that of ``eo:bands`` and of the asset's
key. Only TIFFs count, and never a picture. ``scene_choice`` says which scenes are used.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biomassters.chips.bands import S1, S2, SENSORS
from biomassters.errors import BadInputError
from biomassters.imagery.asset_names import CLOUD_PROBABILITY, SCENE_CLASSES, canonical_name
from biomassters.imagery.catalogues import UNSIGNED, Catalogue, Signing, without_query
from biomassters.imagery.radiometry import UNSTATED, Offset, stated_offset
from biomassters.io.storage import is_url
from biomassters.messages import listed

_SENSOR = re.compile(r"(?:sentinel[-_ ]?|\bs)([12])(?![0-9])", re.IGNORECASE)
_TIFF_TYPES = ("image/tiff", "image/vnd.stac.geotiff")
_TIFF_NAMES = (".tif", ".tiff")
_PICTURES = ("thumbnail", "overview", "visual", "tci", "preview")
_ORBITS = {"ascending": "asc", "descending": "desc"}
_POLARIZATIONS = ("VV", "VH")
_BASELINE = re.compile(r"_N(\d\d)(\d\d)_")
_TILE = re.compile(r"(?:^|[_-]T?)(\d{1,2}[C-X][A-Z]{2})(?=_|$)")


class UnusableItemError(Exception):
    """Why an item is no scene that can be used, as the end of a sentence.

    Attributes:
        names_bands: Whether it has files of single bands at all.
    """

    def __init__(self, reason: str, *, names_bands: bool = True) -> None:
        super().__init__(reason)
        self.names_bands = names_bands


@dataclass(frozen=True)
class Scene:
    """One acquisition over one place; picklable.

    Attributes:
        id: The item's.
        sensor: ``"s1"`` or ``"s2"``.
        when: Time of acquisition.
        files: Addresses by band: B2 to B12, SCL and CLP, or VV and VH.
        orbit: ``"asc"`` or ``"desc"`` of Sentinel-1.
        tile: Of Sentinel-2's tiling grid, where the item says it.
        made: Processing baseline and time of processing: of two alike the higher one is newer.
        offset: What metadata say of Sentinel-2's offset.
        unit: ``"power"`` or ``"dB"`` of Sentinel-1; None: pixels tell.
        incidence_deg: Of gamma0, where the item states it; 0 of what is sigma0 already.
        cloud_share: Of the whole scene, 0 to 1, where the item states it.
        bounds: West, south, east, north in degrees.
        simulated: Whether it says that it was simulated.
        known_catalogue: Whether a catalogue, rather than its own words, says which band is which.
        signing: How its addresses are signed.
    """

    id: str
    sensor: str
    when: datetime
    files: Mapping[str, str]
    orbit: str | None = None
    tile: str | None = None
    made: tuple[float, str] = (0.0, "")
    offset: Offset = UNSTATED
    unit: str | None = None
    incidence_deg: float | None = None
    cloud_share: float | None = None
    bounds: tuple[float, ...] = ()
    simulated: bool = False
    known_catalogue: bool = False
    signing: Signing = field(default=UNSIGNED, compare=False)

    @property
    def month(self) -> int:
        """0 (September) to 11."""
        return month_of(self.when)

    @property
    def first_year(self) -> int:
        """Of the September that its twelve months begin with."""
        return first_year_of(self.when)

    def identity(self) -> list[Any]:
        """Which scene it is, for JSON: the same whatever signature its addresses have."""
        return [self.id, sorted((band, without_query(at)) for band, at in self.files.items())]


def scene_of(item: Mapping[str, Any], catalogue: Catalogue | None) -> Scene:
    """The scene that an item describes; addresses are absolute already.

    Args:
        item: With ``properties`` and ``assets``.
        catalogue: Whose keys its assets have; None: read from bands and keys.

    Raises:
        UnusableItemError: It lacks bands, or Sentinel-1 its orbit.
        BadInputError: It doesn't say its time or sensor.
    """
    properties, sensor = item["properties"], sensor_of(item)
    made = str(properties.get("s2:generation_time") or properties.get("created") or "")
    orbit = _ORBITS.get(str(properties.get("sat:orbit_state", "")).lower())
    if sensor == S1.name and orbit is None:
        raise UnusableItemError("doesn't say its orbit: sat:orbit_state is neither ascending nor "
                         "descending")  # fmt: skip
    files = _files(item, sensor, catalogue)
    needed = S2.measured if sensor == S2.name else _POLARIZATIONS
    missing = [band for band in needed if band not in files]
    if missing and (not files or sensor == S2.name):
        raise UnusableItemError(
            f"has no GeoTIFF of {listed(missing)}", names_bands=bool(files) or catalogue is not None
        )
    radar = catalogue.s1 if catalogue is not None and sensor == S1.name else None
    angle = properties.get("view:incidence_angle") if sensor == S1.name else None
    optical = catalogue.s2 if catalogue is not None and sensor == S2.name else None
    cloud = properties.get("eo:cloud_cover")
    baseline = _baseline(item)
    return Scene(
        id=str(item.get("id")),
        sensor=sensor,
        when=date_of(item),
        files=files,
        orbit=orbit,
        tile=_tile(item),
        made=(baseline or 0.0, made),
        offset=_stated(item, optical.offset_applied if optical else None, baseline, files)
        if sensor == S2.name
        else UNSTATED,
        unit=(radar.unit if radar else None) or _radar_unit(item),
        incidence_deg=(None if angle is None else float(angle))
        if radar is not None and radar.reference == "gamma0"
        else 0.0,
        cloud_share=None if cloud is None else float(cloud) / 100,
        bounds=tuple(map(float, item.get("bbox") or ())),
        known_catalogue=catalogue is not None,
        simulated=bool(properties.get("biomassters:simulated")),
        signing=UNSIGNED
        if catalogue is None or catalogue.token_url is None
        else Signing(catalogue.token_url, catalogue.signed_hosts),
    )


def date_of(item: Mapping[str, Any]) -> datetime:
    """When an item was taken; raises BadInputError where it doesn't say."""
    properties = item["properties"]
    text = properties.get("datetime") or properties.get("start_datetime")
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        raise BadInputError(
            f"item {item.get('id')} has no datetime (got {text!r}), so its month is unknown."
        ) from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def month_of(when: datetime) -> int:
    """0 (September) to 11."""
    return (when.month - 9) % 12


def first_year_of(when: datetime) -> int:
    """Of the September that the twelve months of a time begin with."""
    return when.year - (when.month < 9)


def make_absolute(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An item whose files lie where their addresses say, seen from a folder."""
    for asset in item.get("assets", {}).values():
        href = str(asset.get("href"))
        if not is_url(href) and not href.startswith("/"):
            asset["href"] = str(folder / href)
    return item


def sensor_of(item: Mapping[str, Any]) -> str:
    """``"s1"`` or ``"s2"``; raises BadInputError where an item says neither."""
    texts = [item["properties"].get(name) for name in ("constellation", "platform")]
    for text in (*texts, item.get("collection"), item.get("id")):
        if text and (found := _SENSOR.search(str(text))):
            return SENSORS[int(found[1]) - 1].name
    raise BadInputError(
        f"item {item.get('id')} doesn't say whether it is Sentinel-1 or Sentinel-2: set its "
        "constellation."
    )


def is_tiff(asset: Mapping[str, Any]) -> bool:
    """Whether an asset is a GeoTIFF that is no picture."""
    roles = asset.get("roles") or []
    if any(role in _PICTURES for role in (roles if isinstance(roles, list) else [roles])):
        return False
    kind = str(asset.get("type") or "")
    path = without_query(asset["href"]).lower()
    return kind.startswith(_TIFF_TYPES) if kind else path.endswith(_TIFF_NAMES)


def band_names_of(asset: Mapping[str, Any], orbit: str | None = None) -> tuple[str, ...]:
    """What an asset's ``bands`` (STAC 1.1) or ``eo:bands`` are called here, empty where unknown."""
    names = []
    for band in asset.get("bands") or asset.get("eo:bands") or []:
        texts = (band.get("name"), band.get("eo:common_name"), band.get("common_name"))
        found = (canonical_name(str(text), orbit) for text in texts if text)
        names.append(next((name for name in found if name), ""))
    return tuple(names)


def _files(item: Mapping[str, Any], sensor: str, catalogue: Catalogue | None) -> dict[str, str]:
    assets = item["assets"]
    if catalogue is not None:
        kind = catalogue.s2 if sensor == S2.name else catalogue.s1
        assert kind is not None
        keys = dict(kind.bands)
        if catalogue.s2 is not None and sensor == S2.name:
            more = {SCENE_CLASSES: catalogue.s2.classes, CLOUD_PROBABILITY: catalogue.s2.clouds}
            keys |= {name: key for name, key in more.items() if key is not None}
        return {
            band: assets[key]["href"]
            for band, key in keys.items()
            if key in assets and is_tiff(assets[key])
        }
    found: dict[str, str] = {}
    known = {*S2.bands, SCENE_CLASSES} if sensor == S2.name else set(_POLARIZATIONS)
    for key, asset in assets.items():
        if not is_tiff(asset) or str(key).lower() in _PICTURES:
            continue
        names = band_names_of(asset, "asc")
        own = canonical_name(str(key), "asc")
        if len(names) > 1:
            continue  # a picture, or a mosaic of all bands
        name = own or (names[0] if names else "")
        band = name.partition("_")[0] if sensor == S1.name else name
        if band in known:
            found.setdefault(band, asset["href"])
    return found


def _stated(
    item: Mapping[str, Any], flag: str | None, baseline: float | None, files: Mapping[str, str]
) -> Offset:
    """From the catalogue's flag, the baseline, and the blue asset's scale and offset."""
    assets: Iterable[Mapping[str, Any]] = item["assets"].values()
    blue = next((one for one in assets if one["href"] == files["B2"]), {})
    scale = offset = None
    for place in (
        *(blue.get("raster:bands") or [])[:1],
        *(blue.get("bands") or [])[:1],
        blue,
    ):
        scale = _number(place.get("scale", place.get("raster:scale"))) if scale is None else scale
        offset = (
            _number(place.get("offset", place.get("raster:offset"))) if offset is None else offset
        )
    applied = item["properties"].get(flag) if flag is not None else None
    return stated_offset(applied, baseline, scale, offset)


def _number(value: Any) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if good else None


def _baseline(item: Mapping[str, Any]) -> float | None:
    properties = item["properties"]
    for name in ("s2:processing_baseline", "processing:version"):
        try:
            return float(properties[name])
        except (KeyError, TypeError, ValueError):
            continue
    names = (properties.get("s2:product_uri"), item.get("id"), *_addresses(item))
    found = next(filter(None, (_BASELINE.search(str(name)) for name in names)), None)
    return None if found is None else float(f"{found[1]}.{found[2]}")


def _addresses(item: Mapping[str, Any]) -> Iterable[str]:
    return (asset["href"] for asset in item["assets"].values())


def _tile(item: Mapping[str, Any]) -> str | None:
    properties = item["properties"]
    for text in (properties.get("s2:mgrs_tile"), properties.get("grid:code"), item.get("id")):
        if text and (found := _TILE.search(str(text))):
            return found[1].zfill(5)
    return None


def _radar_unit(item: Mapping[str, Any]) -> str | None:
    for asset in item["assets"].values():
        for band in (asset.get("raster:bands") or asset.get("bands") or [])[:1]:
            if str(band.get("unit", "")).lower() == "db":
                return "dB"
    return None


def without_duplicates(scenes: Iterable[Scene]) -> tuple[list[Scene], dict[str, str]]:
    """One scene a tile and time: the one of the newest processing.

    Returns:
        The scenes, in order of time; and those left out, with the one that is kept, by id.
    """
    kept: dict[Any, Scene] = {}
    dropped = {}
    for scene in sorted(scenes, key=lambda one: (one.when, one.made, one.id)):
        # Another processing of the same pass has the same second; S1's slices follow in others.
        place = scene.tile or tuple(round(value, 2) for value in scene.bounds) or scene.id
        key = (scene.sensor, scene.orbit, place, scene.when.replace(microsecond=0))
        if key in kept:
            dropped[kept[key].id] = scene.id
        kept[key] = scene
    return sorted(kept.values(), key=lambda one: (one.when, one.id)), dropped
