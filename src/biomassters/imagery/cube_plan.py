"""From found items to the choice of scenes; looked at once, however often a run is killed."""

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rasterio.crs import CRS
from rasterio.transform import Affine

from biomassters.chips.bands import S1, SENSORS
from biomassters.errors import BadInputError
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.pixel_grid import Grid
from biomassters.imagery.scene_choice import Choice, Rows, choose_scenes, warn_of_gaps
from biomassters.imagery.scenes import (
    Scene,
    UnusableItemError,
    date_of,
    scene_of,
    sensor_of,
    without_duplicates,
)
from biomassters.imagery.search import area_of, catalogue_of
from biomassters.io.files import write_durably
from biomassters.io.gdal import parse_crs

log = logging.getLogger(__name__)


def plan_cube(items: dict[str, Any], options: ImageryOptions, scratch: Path) -> Choice:
    """What a cube is made of.

    Args:
        items: That the search found.
        options: Area, year, catalogues.
        scratch: Where a choice that was made before lies.

    Raises:
        BadInputError: Nothing can be used, the catalogue's radar is in radar geometry, or the
            network fails.
    """
    scenes, rows = _scenes(items, options)
    if not scenes:
        worst = next(iter(rows.rows.values()))
        raise BadInputError(
            f"None of the {len(rows.rows)} items that were found can be used: {worst['scene']} "
            f"{worst['reason']}; choose another catalogue."
        )
    area = area_of(options)
    crs = None if options.crs is None else parse_crs(options.crs, "imagery.crs")
    facts = [
        [scene.identity() for scene in scenes],
        options.crs,
        str(area.within(area.crs).identity()),
    ]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    place = scratch / "choice.json"
    choice = _read(place, fingerprint, scenes, area)
    if choice is None:
        with ThreadPoolExecutor(options.reader_threads) as pool:
            choice = choose_scenes(scenes, area, crs, pool.map, rows)
        _require_radar(choice)
        _save(place, fingerprint, choice)
    warn_of_gaps(choice.scenes)
    return choice


def _scenes(items: dict[str, Any], options: ImageryOptions) -> tuple[list[Scene], Rows]:
    """Items that are scenes of the year, without duplicates; the others have a row already."""
    rows, found = Rows(), []
    catalogues = {sensor.name: catalogue_of(options, sensor.name) for sensor in SENSORS}
    for item in items["features"]:
        sensor = sensor_of(item)
        try:
            scene = scene_of(item, catalogues[sensor])
        except UnusableItemError as error:
            log.warning("Item %s is left out: it %s.", item.get("id"), error)
            when = date_of(item)
            rows.note(str(item.get("id")), sensor, when, use="left out", reason=str(error))
            continue
        if scene.first_year == options.year:
            found.append(scene)
    by_id = {scene.id: scene for scene in found}
    kept, dropped = without_duplicates(found)
    for name, newer in dropped.items():
        rows.add(by_id[name], "left out", f"{newer} is a newer processing of it")
    return kept, rows


def _require_radar(choice: Choice) -> None:
    """Refuse a catalogue none of whose Sentinel-1 can be used, with the first reason."""
    rows = [row for row in choice.rows if row["sensor"] == S1.name]
    if rows and not any(sensor == S1.name for _, sensor in choice.scenes):
        raise BadInputError(
            f"No scene of Sentinel-1 can be used: {rows[0]['reason']}; or go without it: "
            "imagery.s1_catalogue=none."
        )


def _save(place: Path, fingerprint: str, choice: Choice) -> None:
    grid = choice.grid
    facts = {
        "fingerprint": fingerprint,
        "grid": [grid.crs.to_wkt(), list(grid.transform)[:6], *grid.shape],
        "scenes": [
            [month, sensor, [scene.id for scene in scenes]]
            for (month, sensor), scenes in choice.scenes.items()
        ],
        "rows": choice.rows,
    }
    write_durably(place, [json.dumps(facts).encode()])


def _read(place: Path, fingerprint: str, scenes: list[Scene], area: Any) -> Choice | None:
    try:
        facts = json.loads(place.read_text(encoding="utf-8"))
        if facts["fingerprint"] != fingerprint:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    wkt, transform, height, width = facts["grid"]
    grid = Grid(CRS.from_wkt(wkt), Affine(*transform), height, width)
    by_id = {scene.id: scene for scene in scenes}
    kept = {
        (month, sensor): tuple(by_id[name] for name in names)
        for month, sensor, names in facts["scenes"]
    }
    return Choice(grid, area.within(grid.crs), kept, tuple(facts["rows"]))
