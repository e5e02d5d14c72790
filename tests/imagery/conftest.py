"""A year of scenes and what composes it."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from tests.fixtures.catalogue import NORTH, SIZE, WEST, Scenes

from biomassters.imagery.cube_plan import plan_cube
from biomassters.imagery.cube_writer import write_cube
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.search import plan_search

BOUNDS = (WEST, NORTH - 10 * SIZE, WEST + 10 * SIZE, NORTH)


def imagery_options(url, **changes):
    given = {"bounds": BOUNDS, "bounds_crs": "EPSG:32635", "year": 2020, "catalogue_url": str(url)}
    return ImageryOptions(**given | changes)


def planned(options, scratch: Path):
    """The choice, after a search."""
    scratch.mkdir(parents=True, exist_ok=True)
    return plan_cube(plan_search(options).run(), options, scratch)


def made_cube(options, folder: Path):
    """The cube's group and its record."""
    scratch = folder / "scratch"
    choice = planned(options, scratch)
    record = write_cube(choice, folder / "cube.zarr", scratch, options)
    assert json.loads(json.dumps(record)) == record
    return zarr.open_group(str(folder / "cube.zarr"), mode="r"), record


def write_year(scenes: Scenes, months=range(12), size: int = SIZE, **options) -> None:
    """Two scenes of Sentinel-2 and one of each orbit of Sentinel-1 a month."""
    rows, columns = np.indices((size, size))
    for month in months:
        number = (month + 8) % 12 + 1
        day = f"{2020 + (number < 9)}-{number:02}"
        scl = np.full((size, size), 4)
        scl[:, : size // 2] = 9
        scenes.s2(f"cloudy{month}", 6000, scl, when=f"{day}-05T09:50:31Z", size=size, **options)
        scenes.s2(f"better{month}", 1300 + rows + columns + 10 * month, when=f"{day}-25T09:50:31Z",
                  size=size, **options)  # fmt: skip
        for orbit, level in (("ascending", -9.0), ("descending", -11.0)):
            scenes.s1(f"{orbit}{month}", level, level - 6, orbit=orbit, size=size,
                      when=f"{day}-12T04:59:10Z")  # fmt: skip


@pytest.fixture
def year(catalogue_server) -> Scenes:
    """Scenes of four months on a server whose API finds them."""
    scenes = Scenes(catalogue_server.folder, catalogue_server.url)
    write_year(scenes, (0, 3, 4, 10))
    catalogue_server.items = scenes.items
    return scenes
