"""Which scenes a month is made of, and in which order: a look at each at 80 m, inside the area.

What a catalogue says of a scene's clouds is of all its 12,000 km²; here the area alone counts. The
table of the choice has a row for every item that was found, with what became of it.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.windows import Window

from biomassters.chips.bands import MONTH_COUNT, MONTH_NAMES, PIXEL_SIZE_M, S1, S2, SENSORS
from biomassters.console import Progress
from biomassters.errors import BadInputError
from biomassters.imagery.area import Area, StatedArea
from biomassters.imagery.asset_names import SCENE_CLASSES
from biomassters.imagery.composites import Each, coarse_grid, look_at
from biomassters.imagery.pixel_grid import WORLD, Grid, bounds_around, clipped, utm_zone
from biomassters.imagery.scene_reader import SceneError, grid_of
from biomassters.imagery.scenes import Scene, month_of
from biomassters.messages import listed

log = logging.getLogger(__name__)
Found = TypeVar("Found")

_LATTICE_M = 20.0  # all of Sentinel-2's tiles of a zone have their 20 m pixels on it
_GROUND_TOLERANCE = 0.01
_PASS = timedelta(minutes=5)  # scenes of one pass over a place
COLUMNS = (
    "sensor", "month", "month_name", "order", "use", "scene", "time", "tile", "orbit",
    "scene_cloud_percent", "area_clear_percent", "area_data_percent", "radiometry", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What a cube is made of.

    Attributes:
        grid: The cube's.
        area: Within it.
        scenes: By month and sensor, the best first.
        rows: Of the table, one a scene.
    """

    grid: Grid
    area: Area
    scenes: Mapping[tuple[int, str], tuple[Scene, ...]]
    rows: tuple[dict[str, Any], ...]

    def table(self) -> pd.DataFrame:
        """A row for each scene that was found, months in order, what is used first."""
        order = {"used": 0, "spare": 1, "left out": 2}
        rows = sorted(
            self.rows,
            key=lambda row: (row["sensor"], row["month"], order[row["use"]], row["order"] or 0,
                             row["time"]),
        )  # fmt: skip
        return pd.DataFrame(rows, columns=list(COLUMNS))


@dataclass(eq=False)
class _Seen:
    """A scene of Sentinel-2 as it looks at 80 m."""

    scene: Scene
    clear: NDArray[np.bool_]
    data: NDArray[np.bool_]
    at_home: bool  # in the grid's coordinate system
    shares: tuple[float, float] = (0.0, 0.0)  # clear, with data


class Rows:
    """The table while it is made, by scene."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    def add(self, scene: Scene, use: str, reason: str = "", order: int | None = None) -> None:
        """What became of a scene."""
        cloud = scene.cloud_share
        self.note(
            scene.id, scene.sensor, scene.when, use=use, reason=reason, order=order,
            tile=scene.tile, orbit=scene.orbit,
            scene_cloud_percent=None if cloud is None else round(100 * cloud, 1),
            radiometry=scene.offset.why if scene.sensor == S2.name else _radar_words(scene),
        )  # fmt: skip

    def leave_out(self, scene: Scene, error: SceneError) -> None:
        """A scene that can't be read."""
        self.add(scene, "left out", str(error))
        log.warning("Scene %s is left out: %s.", scene.id, error)

    def note(self, name: str, sensor: str, when: datetime, **facts: Any) -> None:
        """What is known of an item, which may be no scene, besides what was noted before."""
        month = month_of(when)
        self.rows[name] = self.rows.get(name, dict.fromkeys(COLUMNS)) | {
            "sensor": sensor, "month": month, "month_name": MONTH_NAMES[month], "scene": name,
            "time": f"{when:%Y-%m-%d %H:%M:%S}", **facts,
        }  # fmt: skip


def _radar_words(scene: Scene) -> str:
    unit = scene.unit or "unit by its values"
    return f"{unit}, {'sigma0' if scene.incidence_deg == 0 else 'gamma0'}"


def choose_scenes(
    scenes: Sequence[Scene],
    area: StatedArea,
    crs: CRS | None = None,
    each: Each = map,
    rows: Rows | None = None,
) -> Choice:
    """Settle the cube's pixels and what each month is made of.

    Args:
        scenes: Of one year, without duplicates.
        area: That is wanted.
        crs: Of the cube; None: that of most scenes.
        each: Looks at scenes side by side.
        rows: Of items that were left out before.

    Raises:
        BadInputError: No scene can be used, or the coordinate system can't be.
    """
    rows = rows or Rows()
    grids: dict[str, Grid] = {}
    with Progress("looking at scenes", 2 * len(scenes)) as progress:
        for scene, found in zip(scenes, each(partial(or_error, _grid_of), scenes), strict=True):
            progress.update()
            if isinstance(found, SceneError):
                rows.leave_out(scene, found)
            else:
                grids[scene.id] = found
        able = [scene for scene in scenes if scene.id in grids]
        if not able:
            raise BadInputError(_nothing(rows))
        grid, here = _settle(able, grids, area, crs)
        kept: dict[tuple[int, str], tuple[Scene, ...]] = {}
        by_month = defaultdict(list)
        for scene in able:
            by_month[scene.month, scene.sensor].append(scene)
        coarse, inside = _coarse(grid, here)
        for (month, sensor), mine in sorted(by_month.items()):
            if sensor == S1.name:
                kept[month, sensor] = _radar_of(mine, grids, grid, rows)
            else:
                kept[month, sensor] = _optical_of(mine, grids, grid, coarse, inside, rows, each)
            progress.update(len(mine))
    kept = {key: found for key, found in kept.items() if found}
    if not kept:
        raise BadInputError(_nothing(rows))
    return Choice(grid, here, kept, tuple(rows.rows.values()))


def footprint(scenes: Iterable[Scene], each: Each = map) -> StatedArea:
    """All that scenes show, where no area is wanted.

    Raises:
        BadInputError: None of them can be opened.
    """
    found = list(each(partial(or_error, _grid_of), scenes))
    grids = [one for one in found if isinstance(one, Grid)]
    if not grids:
        raise BadInputError(f"No scene can be opened: {found[0]}.")
    crs = grids[0].crs
    bounds = bounds_around(grid.bounds_in(crs) for grid in grids)
    return StatedArea(bounds, crs, "the scenes' extent")


def _nothing(rows: Rows) -> str:
    reasons = Counter(row["reason"] for row in rows.rows.values())
    most, count = reasons.most_common(1)[0]
    return (
        f"None of {len(rows.rows)} scenes can be used; {count} of them: {most}. Choose another "
        "catalogue, area or year."
    )


def _grid_of(scene: Scene) -> Grid:
    # Of two files the one that is looked at next, so that it is opened once.
    band = SCENE_CLASSES if SCENE_CLASSES in scene.files else next(iter(scene.files))
    return grid_of(scene, band)


def or_error(look: Callable[[Scene], Found], scene: Scene) -> Found | SceneError:
    """What a look at a scene gives, or what is wrong with the scene.

    Raises:
        BadInputError: The others will meet the same fault.
    """
    try:
        return look(scene)
    except SceneError as error:
        if not error.of_scene:
            raise BadInputError(f"{error}: check the network and the credentials.") from None
        return error


def _settle(
    scenes: Sequence[Scene], grids: Mapping[str, Grid], area: StatedArea, crs: CRS | None
) -> tuple[Grid, Area]:
    """The cube's grid, on the 20 m pixels of the scenes of its coordinate system."""
    optical = [one for one in scenes if one.sensor == S2.name] or list(scenes)
    if crs is None:
        counts = Counter(grids[one.id].crs.to_wkt() for one in optical)
        most = CRS.from_wkt(max(counts, key=lambda wkt: (counts[wkt], wkt)))
        crs = most if _measures(most, area) else utm_zone(area.within(WORLD).bounds)
    home = next((grids[one.id] for one in optical if grids[one.id].crs == crs), None)
    left, top = (0.0, 0.0) if home is None else (home.transform.c, home.transform.f)
    here = area.within(crs)
    west, south, east, north = here.bounds
    lattice = np.array([left, top, left, top]) % _LATTICE_M
    edges = (np.array([west, north, east, south]) - lattice) / _LATTICE_M
    outward = (np.floor, np.ceil, np.ceil, np.floor)
    whole = [round_(edge) for round_, edge in zip(outward, edges, strict=True)]
    west, north, east, south = (np.array(whole) * _LATTICE_M + lattice).tolist()
    size = PIXEL_SIZE_M
    grid = Grid(
        crs,
        Affine(size, 0, west, 0, -size, north),
        max(1, round((north - south) / size)),
        max(1, round((east - west) / size)),
    )
    if not _measures(crs, area):
        raise BadInputError(
            f"imagery.crs: pixels of {size:g} units of {crs} don't measure {size:g} m on the "
            "ground; choose the area's UTM zone, or null."
        )
    return grid, here


def _measures(crs: CRS, area: StatedArea) -> bool:
    """Whether units of a coordinate system are metres on the ground of the area, to 1 %."""
    if not crs.is_projected:
        return False
    west, south, east, north = area.within(crs).bounds
    width, height = (max(1, int(side / PIXEL_SIZE_M)) for side in (east - west, north - south))
    pixels = Affine(PIXEL_SIZE_M, 0, west, 0, -PIXEL_SIZE_M, north)
    sides = Grid(crs, pixels, height, width).ground.sides_m()
    return bool(np.abs(sides / PIXEL_SIZE_M - 1).max() <= _GROUND_TOLERANCE)


def _coarse(grid: Grid, area: Area) -> tuple[Grid, NDArray[np.bool_]]:
    """The same ground at 80 m, and which of it lies in the area."""
    coarse = coarse_grid(grid)
    inside = area.inside(coarse, Window(0, 0, coarse.width, coarse.height))
    return coarse, inside if inside.any() else np.ones_like(inside)


def _radar_of(
    scenes: Sequence[Scene], grids: Mapping[str, Grid], grid: Grid, rows: Rows
) -> tuple[Scene, ...]:
    kept = []
    for scene in sorted(scenes, key=lambda one: (one.when, one.id)):
        if _meets(grids[scene.id], grid):
            kept.append(scene)
            rows.add(scene, "used", order=len(kept))
        else:
            rows.add(scene, "left out", "doesn't reach the area")
    return tuple(kept)


def _meets(image: Grid, grid: Grid) -> bool:
    return clipped(image.window_of(grid.bounds_in(image.crs)), *image.shape) is not None


def _optical_of(
    scenes: Sequence[Scene],
    grids: Mapping[str, Grid],
    grid: Grid,
    coarse: Grid,
    inside: NDArray[np.bool_],
    rows: Rows,
    each: Each,
) -> tuple[Scene, ...]:
    found = []
    looks = each(partial(or_error, partial(seen_in, coarse=coarse, inside=inside)), scenes)
    for scene, seen in zip(scenes, looks, strict=True):
        if isinstance(seen, SceneError):
            rows.leave_out(scene, seen)
            continue
        seen.at_home = grids[scene.id].crs == grid.crs
        rows.rows[scene.id] = dict.fromkeys(COLUMNS) | {
            "area_clear_percent": round(100 * seen.shares[0], 1),
            "area_data_percent": round(100 * seen.shares[1], 1),
        }
        if seen.data.any():
            found.append(seen)
        else:
            rows.add(scene, "left out", "has no data in the area")
    ranked = rank(found)
    kept: list[Scene] = []
    spare: list[Scene] = []
    clear, data = np.zeros_like(inside), np.zeros_like(inside)
    for seen in ranked:
        if not seen.at_home and _shown_at_home(seen, ranked):
            rows.add(seen.scene, "left out", "the same pass is there in the cube's UTM zone")
        elif (seen.clear & ~clear).any() or (seen.data & ~data).any():
            kept.append(seen.scene)
            clear |= seen.clear
            data |= seen.data
            rows.add(seen.scene, "used", order=len(kept))
        else:
            # Read all the same where a better one's swath ends before its classes say so.
            spare.append(seen.scene)
            rows.add(seen.scene, "spare", "shows nothing that better scenes lack")
    return (*kept, *spare)


def seen_in(scene: Scene, coarse: Grid, inside: NDArray[np.bool_]) -> _Seen:
    """A scene of Sentinel-2 in the area at 80 m."""
    look = look_at(scene, coarse)
    clear, data = look.clear & inside, look.data & inside
    whole = max(1, int(inside.sum()))
    shares = clear.sum() / whole, data.sum() / whole
    if SCENE_CLASSES not in scene.files and look.clouds is None and scene.cloud_share is not None:
        shares = shares[0] * (1 - scene.cloud_share), shares[1]
    return _Seen(scene, clear, data, True, (float(shares[0]), float(shares[1])))


def rank(seen: Iterable[_Seen]) -> list[_Seen]:
    """The clearest first; of two alike the one in the grid's own coordinate system."""
    return sorted(
        seen,
        key=lambda one: (-round(one.shares[0], 3), not one.at_home, -round(one.shares[1], 3),
                         one.scene.when, one.scene.id),
    )  # fmt: skip


def _shown_at_home(one: _Seen, others: Iterable[_Seen]) -> bool:
    """Whether tiles of the cube's own zone show all of it that the same pass has."""
    shown = np.zeros_like(one.data)
    for other in others:
        if other.at_home and abs(other.scene.when - one.scene.when) < _PASS:
            shown |= other.data
    return bool((one.data & ~shown).sum() <= 0.001 * one.data.sum())


def warn_of_gaps(kept: Mapping[tuple[int, str], Any]) -> None:
    """Name the months without any scene in the log."""
    for sensor in SENSORS:
        missing = [MONTH_NAMES[m] for m in range(MONTH_COUNT) if (m, sensor.name) not in kept]
        if missing:
            log.warning("No scene of %s in %s.", sensor.tag, listed(missing))
