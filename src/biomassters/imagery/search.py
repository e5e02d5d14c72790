"""Items of a catalogue that show an area in a year: a STAC API, a static catalogue, a file.

One query a month and collection, so that a page that fails costs little and a month without
scenes is seen. Links and signatures are not kept.
"""

import calendar
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from biomassters.chips.bands import MONTH_COUNT, SENSORS
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.imagery.area import StatedArea, state_area
from biomassters.imagery.catalogues import Catalogue, read_catalogue, without_query
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.pixel_grid import WORLD, Bounds
from biomassters.imagery.scenes import date_of, make_absolute
from biomassters.io.files import read_json
from biomassters.io.storage import is_url, time_limits_s
from biomassters.messages import counted, installation, redact

log = logging.getLogger(__name__)

NO_RADAR = "none"
_PAGE = 100
_AGAIN = (429, 500, 502, 503, 504)
_KM_A_DEGREE = 111.2
QUERY = "biomassters:query"


@dataclass(frozen=True)
class SceneSearch:
    """What is looked for; nothing is asked before ``run``.

    Attributes:
        options: Of the pipeline.
        bounds: Of the area in degrees.
    """

    options: ImageryOptions
    bounds: Bounds

    @property
    def query(self) -> dict[str, Any]:
        """What the answer depends on, for JSON."""
        options = self.options
        return {
            "bounds": [round(value, 7) for value in self.bounds],
            "year": options.year,
            "catalogue": options.catalogue,
            "s1_catalogue": options.s1_catalogue,
            "url": None if options.catalogue_url is None else redact(options.catalogue_url),
        }

    def run(self) -> dict[str, Any]:
        """An item collection, the answer to all queries.

        Raises:
            BadInputError: There is no catalogue, it can't be asked, or has nothing there.
        """
        assert self.options.year is not None
        sources = list(self._sources())
        found: dict[str, dict[str, Any]] = {}
        with Progress("searching scenes", len(sources) * MONTH_COUNT) as progress:
            for url, collection in sources:
                asked = _opened(url, collection, self.bounds, self.options.retries)
                for month in range(MONTH_COUNT):
                    for item in asked(*_month(self.options.year, month)):
                        found[f"{collection}/{item.get('id')}"] = _kept(item)
                    progress.note(counted(len(found), "scene"))
                    progress.update()
        if not found:
            west, south, east, north = self.bounds
            raise BadInputError(
                f"No scene of {' and '.join(name for _, name in sources)} shows "
                f"{west:.3f}, {south:.3f}, {east:.3f}, {north:.3f} (west, south, east, north) "
                f"between September {self.options.year} and August {self.options.year + 1}: check "
                "imagery.area, imagery.year and the catalogue."
            )
        log.info("%s found.", counted(len(found), "scene"))
        return {"type": "FeatureCollection", QUERY: self.query, "features": list(found.values())}

    def _sources(self) -> Iterator[tuple[str, str]]:
        """Address and collection, sensor by sensor."""
        for sensor in SENSORS:
            catalogue = catalogue_of(self.options, sensor.name)
            if catalogue is None:
                continue
            kind = catalogue.s2 if sensor.name == "s2" else catalogue.s1
            assert kind is not None
            yield self.options.catalogue_url or catalogue.url, kind.collection


def catalogue_of(options: ImageryOptions, sensor: str) -> Catalogue | None:
    """Where a sensor's scenes come from; None: Sentinel-1 isn't wanted.

    Raises:
        BadInputError: There is no such catalogue, or it has nothing of the sensor.
    """
    name = options.catalogue
    if sensor == "s1" and options.s1_catalogue is not None:
        name = options.s1_catalogue
        if name == NO_RADAR:
            return None
    catalogue = read_catalogue(name)
    if (catalogue.s1 if sensor == "s1" else catalogue.s2) is None:
        reason = catalogue.no_s1 if sensor == "s1" else "has no Sentinel-2"
        raise BadInputError(
            f"The catalogue {name} {reason}: add 'imagery.s1_catalogue=planetary-computer', or "
            "none to do without."
            if sensor == "s1"
            else f"The catalogue {name} {reason}: choose another one with imagery.catalogue."
        )
    return catalogue


def plan_search(options: ImageryOptions) -> SceneSearch:
    """Look at area and options before anything is asked.

    Raises:
        BadInputError: No area or year, an area that can't be or is too large.
    """
    if options.year is None:
        raise BadInputError(
            "imagery.year is missing: name the year of the September that the twelve months begin "
            "with, as in 'imagery.year=2020'."
        )
    bounds = area_of(options).within(WORLD).bounds
    west, south, east, north = bounds
    height = (north - south) * _KM_A_DEGREE
    size = height * (east - west) * _KM_A_DEGREE * np.cos(np.deg2rad((south + north) / 2))
    if size > options.largest_km2:
        raise BadInputError(
            f"The area's rectangle has {size:,.0f} km², more than imagery.largest_km2 "
            f"({options.largest_km2:,.0f}): raise that, or choose a smaller area."
        )
    for sensor in SENSORS:
        catalogue_of(options, sensor.name)
    return SceneSearch(options, bounds)


def area_of(options: ImageryOptions) -> StatedArea:
    """The area that is wanted; raises BadInputError where none is named."""
    area = state_area(options.stated_area, "imagery")
    if area is None:
        raise BadInputError(
            "imagery.area is missing: name a file with polygons (GeoJSON, GeoPackage, shapefile, "
            "KML), or imagery.bounds."
        )
    return area


def _month(year: int, month: int) -> tuple[datetime, datetime]:
    """First and last second of a month, 0 (September) to 11."""
    number = (month + 8) % MONTH_COUNT + 1
    year += number < 9
    last = calendar.monthrange(year, number)[1]
    return (
        datetime(year, number, 1, tzinfo=UTC),
        datetime(year, number, last, 23, 59, 59, tzinfo=UTC),
    )


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    assets = {
        key: {**asset, "href": without_query(str(asset["href"]))}
        for key, asset in item["assets"].items()
        if isinstance(asset, dict) and "href" in asset
    }
    return {**item, "links": [], "assets": assets}


def _opened(url: str, collection: str, bounds: Bounds, retries: int) -> Any:
    """What answers the query of a month."""
    static = url.endswith((".json", ".geojson")) or not is_url(url)
    if static:
        items = [
            item
            for item in _static_items(url)
            if item.get("collection") == collection and _overlaps(item.get("bbox"), bounds)
        ]
        return lambda begin, end: [item for item in items if begin <= date_of(item) <= end]
    return _api(url, collection, bounds, retries)


def _static_items(url: str) -> list[dict[str, Any]]:
    """All items of a file or a static catalogue, their addresses absolute."""
    import pystac

    folder = Path(url).absolute().parent
    if not is_url(url):
        content = read_json(url, "give a STAC catalogue, an item collection or an API's address")
        if isinstance(content, dict) and content.get("type") == "FeatureCollection":
            return [make_absolute(item, folder) for item in content.get("features", [])]
        url = str(Path(url).absolute())
    try:
        catalogue = pystac.Catalog.from_file(url)
        items = list(catalogue.get_items(recursive=True))
        for item in items:
            item.make_asset_hrefs_absolute()
        return [item.to_dict(False, transform_hrefs=False) for item in items]
    except Exception as error:  # whatever it meets in what isn't STAC
        raise _no_catalogue(url, error) from None


def _overlaps(box: Any, bounds: Bounds) -> bool:
    west, south, east, north = bounds
    if not isinstance(box, list) or len(box) != 4:
        return False
    return bool(box[0] < east and box[2] > west and box[1] < north and box[3] > south)


def _api(url: str, collection: str, bounds: Bounds, retries: int) -> Any:
    try:
        import pystac_client
        from pystac_client.stac_api_io import StacApiIO
        from urllib3 import Retry
    except ImportError:
        raise BadInputError(
            f"Searching a STAC API needs pystac-client: install it with {installation('imagery')}, "
            "or name a static catalogue with imagery.catalogue_url."
        ) from None
    retry = Retry(
        total=retries, backoff_factor=0.5, status_forcelist=_AGAIN, allowed_methods=None,
    )  # fmt: skip
    try:
        client = pystac_client.Client.open(
            url, stac_io=StacApiIO(max_retries=retry, timeout=time_limits_s()[1])
        )
    except Exception as error:  # requests', urllib3's, pystac's
        raise _no_catalogue(url, error) from None

    def ask(begin: datetime, end: datetime) -> list[dict[str, Any]]:
        try:
            search = client.search(
                collections=[collection], bbox=bounds, datetime=(begin, end), limit=_PAGE
            )
            found = list(search.items_as_dicts())
            # A server may overlook what it was asked for: stac-fastapi-geoparquet does.
            return [item for item in found if item.get("collection", collection) == collection]
        except Exception as error:
            raise BadInputError(
                f"{redact(url)} doesn't answer a search of {collection} for {begin:%B %Y} "
                f"({_words(error)}): check the network and the credentials, then run again."
            ) from None

    return ask


def _no_catalogue(url: str, error: Exception) -> BadInputError:
    return BadInputError(
        f"There is no STAC catalogue at {redact(url)} ({_words(error)}): check imagery.catalogue "
        "and imagery.catalogue_url."
    )


def _words(error: Exception) -> str:
    return redact(" ".join(str(error).split())[:200].rstrip(" .") or type(error).__name__)


def same_query(path: Path, search: SceneSearch) -> bool:
    """Whether a file holds the answer to a search already."""
    try:
        return bool(json.loads(path.read_text(encoding="utf-8"))[QUERY] == search.query)
    except (OSError, ValueError, KeyError, TypeError):
        return False
