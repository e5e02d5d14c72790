"""A STAC item that describes a map."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from biomassters import __version__
from biomassters.messages import redacted
from biomassters.regions.grid import Grid
from biomassters.regions.map_writer import DESCRIPTIONS
from biomassters.regions.options import TITLE

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_POINTS_A_SIDE = 5
_SHOWN = (
    "area_ha", "biomass_mg", "biomass_mg_lower", "biomass_mg_upper", "biomass_of_map_mg",
    "carbon_mg", "carbon_mg_lower", "carbon_mg_upper", "carbon_fraction", "level",
    "mean_agb_mg_per_ha", "mean_of_map_mg_per_ha", "images_simulated", "weights_fingerprint",
    "weights_trained_on",
)  # fmt: skip


def describe_map(
    path: Path, grid: Grid, summary: dict[str, Any], first_year: int | None
) -> dict[str, Any]:
    """A STAC item of a map, core fields alone, so that it is checked without fetching anything.

    Args:
        path: The map; the item is meant to lie beside it.
        grid: Of the map.
        summary: Its numbers.
        first_year: Of the September that the images begin with; None: unknown, the item then has
            the time of its making.
    """
    import pystac  # few commands need it

    now = datetime.now(UTC).replace(microsecond=0)
    dates: dict[str, Any] = {"datetime": now}
    if first_year is not None:
        start = datetime(first_year, 9, 1, tzinfo=UTC)
        end = datetime(first_year + 1, 8, 31, 23, 59, 59, tzinfo=UTC)
        dates = {"datetime": None, "start_datetime": start, "end_datetime": end}
    properties = {
        "title": TITLE,
        "description": summary.get("caveat", ""),
        "created": now.isoformat().replace("+00:00", "Z"),
        "processing:software": {"biomassters": __version__},
    }
    for name in _SHOWN:
        if summary.get(name) is not None:
            properties[f"biomassters:{name}"] = redacted(summary[name])
    ring = _outline(grid)
    item = pystac.Item(
        id=path.stem, geometry={"type": "Polygon", "coordinates": [ring]},
        bbox=[*np.min(ring, axis=0).tolist(), *np.max(ring, axis=0).tolist()],
        properties=properties, **dates,
    )  # fmt: skip
    bands = [
        {"name": name, "description": text, "unit": unit, "data_type": "float32", "nodata": "nan"}
        for name, (text, unit) in DESCRIPTIONS.items()
    ]
    item.add_asset(
        "agb",
        pystac.Asset(
            path.name, title="Aboveground biomass density", media_type=_COG, roles=["data"],
            extra_fields={"bands": bands, "gsd": grid.pixel_size},
        ),
    )  # fmt: skip
    return dict(item.to_dict(include_self_link=False, transform_hrefs=False))


def _outline(grid: Grid) -> list[list[float]]:
    """The map's border in degrees, counterclockwise; its sides bend, so they have points."""
    steps = np.linspace(0, 1, _POINTS_A_SIDE)[:-1]
    ring = [
        *((step, 0) for step in steps), *((1, step) for step in steps),
        *((1 - step, 1) for step in steps), *((0, 1 - step) for step in steps),
    ]  # fmt: skip
    places = grid.degrees((x * grid.width, y * grid.height) for x, y in ring)
    points = [[round(x, 7), round(y, 7)] for x, y in reversed(places)]
    return [*points, points[0]]
