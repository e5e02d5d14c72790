"""Polygons as arrays: the pixels that rasterio gives for all of them at once, in less of both."""

import json
import time
import tracemalloc

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.features import geometry_mask
from rasterio.transform import from_origin
from rasterio.warp import transform_geom
from rasterio.windows import Window

from biomassters.errors import BadInputError
from biomassters.imagery.area import state_area
from biomassters.imagery.options import AreaOptions
from biomassters.imagery.pixel_grid import Grid, clipped, slices_in
from biomassters.imagery.polygon_files import read_polygons

WEST, NORTH = 400_000.0, 6_900_000.0
FINLAND = CRS.from_epsg(3067)
WORLD = CRS.from_epsg(4326)


def grid_of(height, width):
    return Grid(FINLAND, from_origin(WEST, NORTH, 10.0, 10.0), height, width)


def ring(*corners):
    """A closed ring; corners in pixels, x to the right and y down."""
    places = [[WEST + 10 * x, NORTH - 10 * y] for x, y in corners]
    return [*places, places[0]]


def square(left, top, size):
    return ring((left, top), (left + size, top), (left + size, top + size), (left, top + size))


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def several(*polygons):
    return {"type": "MultiPolygon", "coordinates": [one["coordinates"] for one in polygons]}


def area_of(path, *geometries, crs="EPSG:3067"):
    features = [{"type": "Feature", "properties": {}, "geometry": one} for one in geometries]
    content = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return state_area(AreaOptions(file=str(path))).within(FINLAND)


def in_windows(area, grid, side):
    """The area of a map, put together from windows as blocks of a map are."""
    found = np.zeros(grid.shape, bool)
    whole = Window(0, 0, grid.width, grid.height)
    for top in range(0, grid.height, side):
        for left in range(0, grid.width, side):
            window = clipped(Window(left, top, side, side), *grid.shape)
            found[slices_in(window, whole)] = area.inside(grid, window)
    return found


HOLED = polygon(square(2, 2, 10), square(4, 4, 5))


@pytest.mark.parametrize(
    ("geometries", "pixels"),
    [
        ([polygon(square(3, 4, 6))], 36),
        ([polygon(square(0, 0, 6)), polygon(square(3, 3, 6))], 36 + 36 - 9),
        ([polygon(square(0, 0, 6)), polygon(square(0, 0, 6))], 36),
        ([HOLED], 100 - 25),
        ([HOLED, polygon(square(5, 5, 3))], 100 - 25 + 9),
        ([several(polygon(square(1, 1, 4)), polygon(square(3, 3, 4)))], 16 + 16 - 4),
        ([several(HOLED, polygon(square(15, 15, 3))), polygon(square(14, 14, 2))], 75 + 9 + 3),
        ([polygon(square(-5, -5, 50))], 20 * 30),
        ([polygon(square(-3, 4, 8)), polygon(square(100, 100, 5))], 5 * 8),
        ([polygon(square(100, 4, 5))], 0),
    ],
    ids=["one", "overlap", "twice", "hole", "island", "multi", "both", "around", "beyond", "far"],
)
@pytest.mark.parametrize("side", [7, 8, 64])
def test_pixels_counted_by_hand(tmp_path, geometries, pixels, side):
    """Whatever windows they are asked for in: most polygons lie across the borders of some."""
    grid = grid_of(20, 30)
    area = area_of(tmp_path / "area.geojson", *geometries)
    assert in_windows(area, grid, side).sum() == pixels
    assert area.is_empty(grid) == (pixels == 0)


def random_polygons(count, side=300):
    """Stars of many sizes, some with a hole, some together in multipolygons."""
    random = np.random.default_rng(5)
    made = []
    for _ in range(count):
        middle, size = random.uniform(0, side, 2), random.uniform(0.5, 30)
        turns = np.sort(random.uniform(0, 2 * np.pi, 9))
        star = np.stack([np.cos(turns), np.sin(turns)], 1) * random.uniform(0.5, 1, (9, 1)) * size
        hole = [ring(*(middle + 0.3 * star))] if random.random() < 0.5 else []
        made.append(polygon(ring(*(middle + star)), *hole))
    return [several(*made[:40]), *made[40:]]


def test_the_same_pixels_as_all_at_once(tmp_path):
    """As rasterio gives them for every polygon on the whole map, from degrees as well."""
    grid, geometries = grid_of(300, 280), random_polygons(700)
    path = tmp_path / "area.geojson"
    whole = geometry_mask(geometries, grid.shape, grid.transform, invert=True)
    assert 0.2 < whole.mean() < 0.99
    np.testing.assert_array_equal(in_windows(area_of(path, *geometries), grid, 64), whole)
    degrees = transform_geom(FINLAND, WORLD, geometries)  # all at once: each prepares anew
    back = transform_geom(WORLD, FINLAND, degrees)
    there = area_of(path, *degrees, crs=None)
    np.testing.assert_array_equal(
        in_windows(there, grid, 64),
        geometry_mask(back, grid.shape, grid.transform, invert=True),
    )
    first = back[0]["coordinates"][0][0]
    assert there.polygons.positions[: len(first)].tolist() == [list(one) for one in first]


def test_heights_and_measures_are_read_over(tmp_path):
    flat = square(3, 4, 6)
    mixed = [[*flat[0], 7.5], flat[1], [*flat[2], 1, 2], flat[3], [*flat[0], 7.5]]
    area = area_of(tmp_path / "area.geojson", polygon(mixed), polygon([[*p, 3] for p in flat]))
    assert in_windows(area, grid_of(20, 30), 64).sum() == 36
    np.testing.assert_array_equal(area.polygons.positions, np.array(flat + flat))


def test_properties_and_boxes_of_a_polygon_are_not_believed(tmp_path):
    path = tmp_path / "area.geojson"
    looks_like_one = {"type": "Polygon", "coordinates": [[["a", 1]]]}
    feature = {
        "type": "Feature",
        "properties": {"before": looks_like_one},
        "geometry": {**polygon([[25, 62], [26, 62], [26, 63], [25, 62]]), "bbox": [9e9, 3, "x", 4]},
    }
    path.write_text(json.dumps(feature))
    found = read_polygons(path)
    assert found.extents.tolist() == [[25, 62, 26, 63]]
    assert (len(found.polygons.polygons), found.crs) == (2, WORLD)


def test_a_multipolygon_on_both_sides_of_the_antimeridian_is_refused(tmp_path):
    sides = [[[x, 60], [x + 1, 60], [x + 1, 61], [x, 60]] for x in (179, -180)]
    with pytest.raises(BadInputError, match="crosses the antimeridian"):
        area_of(tmp_path / "area.geojson", several(*map(polygon, sides)), crs=None)


def test_a_polygon_where_the_map_has_no_coordinates_is_refused(tmp_path):
    pole = polygon([[25, 89.5], [26, 89.5], [26, 95], [25, 89.5]])
    sentence = r"area\.geojson holds a polygon that can't be drawn in EPSG:3067 .*mend it, or"
    with pytest.raises(BadInputError, match=sentence):
        area_of(tmp_path / "area.geojson", pole, crs=None)


def test_the_identity_changes_with_any_polygon(tmp_path):
    path, first = tmp_path / "area.geojson", polygon(square(0, 0, 6))
    one, same, other, split = (
        json.dumps(area_of(path, *geometries).identity())
        for geometries in (
            [first, HOLED], [first, HOLED], [first, polygon(square(2, 2, 10))],
            [first, polygon(HOLED["coordinates"][0]), polygon(HOLED["coordinates"][1])],
        )
    )  # fmt: skip
    assert one == same
    assert len({one, other, split}) == 3


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """20,000 hexagons over 2,048 x 2,048 pixels."""
    path = tmp_path_factory.mktemp("many") / "area.geojson"
    random = np.random.default_rng(1)
    turns = np.linspace(0, 2 * np.pi, 7)[:-1]
    corners = np.stack([np.cos(turns), np.sin(turns)], 1)
    hexagons = random.uniform(0, 2048, (20_000, 1, 2)) + 2 * corners
    area_of(path, *(polygon(ring(*hexagon)) for hexagon in hexagons.tolist()))
    return path


def test_many_polygons_take_little_time(many):
    """Measured: 2 s of a processor. As lists, with all polygons in every window, it was 32 s."""
    grid, start = grid_of(2048, 2048), time.process_time()
    area = state_area(AreaOptions(file=str(many))).within(FINLAND)
    assert 0.04 < in_windows(area, grid, 128).mean() < 0.06
    assert time.process_time() - start < 15


def test_many_polygons_take_little_memory(many):
    """Measured: 2.8 times the file's size. As lists it was 7.2 times."""
    tracemalloc.start()
    try:
        read_polygons(many)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 5 * many.stat().st_size
