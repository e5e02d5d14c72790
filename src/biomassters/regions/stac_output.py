"""A STAC item that describes a map."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS

from biomassters import __version__
from biomassters.messages import redacted
from biomassters.regions.assembly import BANDS
from biomassters.regions.cog import DESCRIPTIONS
from biomassters.regions.grid import Bounds, Grid
from biomassters.regions.map_facts import TITLE

_WORLD = CRS.from_epsg(4326)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_POINTS_A_SIDE = 5


def describe_map(
    path: Path, grid: Grid, summary: dict[str, Any], first_year: int | None
) -> dict[str, Any]:
    """A STAC item of a map, core fields alone, so that it is checked without fetching anything.

    Args:
        path: The map; the item is meant to lie beside it.
        grid: Where it lies.
        summary: Its numbers.
        first_year: Of the September that the images begin with; None: unknown, the item then has
            the time of its making.

    Returns:
        The item, ready for JSON.
    """
    import pystac

    dates: dict[str, Any] = {"datetime": datetime.now(UTC).replace(microsecond=0)}
    if first_year is not None:
        start = datetime(first_year, 9, 1, tzinfo=UTC)
        end = datetime(first_year + 1, 8, 31, 23, 59, 59, tzinfo=UTC)
        dates = {"datetime": None, "start_datetime": start, "end_datetime": end}
    footprint = outline(grid)
    item = pystac.Item(
        id=path.stem, geometry=footprint, bbox=_box(footprint), properties=_properties(summary),
        **dates,
    )  # fmt: skip
    item.add_asset(
        "agb",
        pystac.Asset(
            path.name, title="Aboveground biomass density", media_type=_COG, roles=["data"],
            extra_fields={"bands": _bands(), "gsd": grid.pixel_size},
        ),
    )  # fmt: skip
    return dict(item.to_dict(include_self_link=False, transform_hrefs=False))


def outline(grid: Grid) -> dict[str, Any]:
    """The map's border in degrees, as a GeoJSON polygon; its sides bend, so they have points."""
    steps = np.linspace(0, 1, _POINTS_A_SIDE)[:-1]
    ring = [
        *((0, step) for step in steps), *((step, 1) for step in steps),
        *((1, 1 - step) for step in steps), *((1 - step, 0) for step in steps),
    ]  # fmt: skip
    places = [grid.transform @ (x * grid.width, y * grid.height) for y, x in ring]
    from rasterio.warp import transform

    east, north = transform(grid.crs, _WORLD, *zip(*places, strict=True))
    points = [[round(x, 7), round(y, 7)] for x, y in zip(east, north, strict=True)][::-1]
    return {"type": "Polygon", "coordinates": [[*points, points[0]]]}


def _box(polygon: dict[str, Any]) -> list[float]:
    points = np.array(polygon["coordinates"][0])
    bounds: Bounds = (*points.min(axis=0), *points.max(axis=0))
    return [float(value) for value in bounds]


def _properties(summary: dict[str, Any]) -> dict[str, Any]:
    shown = (
        "area_ha", "biomass_mg", "biomass_mg_lower", "biomass_mg_upper", "biomass_of_map_mg",
        "carbon_mg", "carbon_mg_lower", "carbon_mg_upper", "carbon_fraction", "level",
        "mean_agb_mg_per_ha", "mean_of_map_mg_per_ha", "images_simulated", "weights_fingerprint",
        "weights_trained_on",
    )  # fmt: skip
    return {
        "title": TITLE,
        "description": summary.get("caveat", ""),
        "created": datetime.now(UTC).replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        "processing:software": {"biomassters": __version__},
        **{
            f"biomassters:{name}": redacted(summary[name])
            for name in shown
            if summary.get(name) is not None
        },
    }


def _bands() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "description": DESCRIPTIONS[name][0],
            "unit": DESCRIPTIONS[name][1],
            "data_type": "float32",
            "nodata": "nan",
        }
        for name in BANDS
    ]
