"""Areas in the formats that people have: the pixels of GeoJSON, and no other file opened."""

import json

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform_geom
from rasterio.windows import Window

from biomassters.errors import BadInputError
from biomassters.imagery.area import state_area
from biomassters.imagery.options import AreaOptions
from biomassters.imagery.pixel_grid import Grid
from biomassters.imagery.polygon_files import read_polygons

WEST, NORTH = 400_000.0, 6_900_000.0
FINLAND = CRS.from_epsg(3067)
GRID = Grid(FINLAND, from_origin(WEST, NORTH, 10.0, 10.0), 40, 50)


def square(left, top, size):
    x, y = WEST + 10 * left, NORTH - 10 * top
    return [[x, y], [x + 10 * size, y], [x + 10 * size, y - 10 * size], [x, y - 10 * size], [x, y]]


HOLED = {"type": "Polygon", "coordinates": [square(2, 2, 20), square(8, 8, 5)]}
TWO = {"type": "MultiPolygon", "coordinates": [[square(30, 4, 6)], [square(40, 20, 8)]]}


def write(path, driver, geometries, crs="EPSG:3067"):
    """With pyogrio, as QGIS and geopandas do."""
    import pyogrio
    import shapely

    wkb = shapely.to_wkb(np.array([shapely.from_geojson(json.dumps(one)) for one in geometries]))
    names = np.array([f"stand {number}" for number in range(len(geometries))], object)
    pyogrio.raw.write(
        str(path), wkb, [names], ["name"], geometry_type="Unknown" if driver != "ESRI Shapefile"
        else "Polygon", crs=crs, driver=driver,
    )  # fmt: skip
    return path


def inside(path):
    area = state_area(AreaOptions(file=str(path))).within(FINLAND)
    return area.inside(GRID, Window(0, 0, GRID.width, GRID.height))


@pytest.fixture
def formats(optional):
    for name in ("pyogrio", "shapely"):
        optional(name)


@pytest.mark.parametrize(
    ("name", "driver"),
    [("a.gpkg", "GPKG"), ("a.shp", "ESRI Shapefile"), ("a.kml", "KML")],
)
def test_the_same_pixels_from_every_format(tmp_path, formats, name, driver):
    geometries, crs = [HOLED, TWO], "EPSG:3067"
    if driver == "KML":  # always in degrees
        geometries = [transform_geom(FINLAND, "EPSG:4326", one) for one in geometries]
        crs = "EPSG:4326"
    found = inside(write(tmp_path / name, driver, geometries, crs))
    assert found.sum() == 400 - 25 + 36 + 64
    assert found[3, 3]
    assert not found[10, 10]
    assert found[22, 42]


def test_each_feature_has_its_extent_and_multipolygons_fall_apart(tmp_path, formats):
    found = read_polygons(write(tmp_path / "a.gpkg", "GPKG", [HOLED, TWO]))
    polygons, extents, crs = found.polygons, found.extents, found.crs
    assert crs == FINLAND
    assert len(polygons.polygons) - 1 == 3
    assert extents[1].tolist() == [WEST + 300, NORTH - 280, WEST + 480, NORTH - 40]


def test_a_shapefile_without_prj_is_refused_with_the_remedy(tmp_path, formats):
    path = write(tmp_path / "a.shp", "ESRI Shapefile", [HOLED])
    (tmp_path / "a.prj").unlink()
    with pytest.raises(BadInputError, match=r"doesn't say its coordinate system: copy the \.prj"):
        read_polygons(path)


def test_points_are_no_area(tmp_path, formats):
    point = {"type": "Point", "coordinates": [WEST, NORTH]}
    with pytest.raises(BadInputError, match="holds no polygon"):
        read_polygons(write(tmp_path / "a.gpkg", "GPKG", [point]))


VRT = """<OGRVRTDataSource><OGRVRTLayer name="a"><SrcDataSource>{}</SrcDataSource>
</OGRVRTLayer></OGRVRTDataSource>"""


@pytest.mark.parametrize("name", ["a.gpkg", "a.shp", "a.kml"])
@pytest.mark.parametrize("head", ["", "<kml/>"])
def test_a_virtual_layer_opens_no_other_file(tmp_path, formats, name, head):
    other = write(tmp_path / "other.gpkg", "GPKG", [HOLED])
    path = tmp_path / name
    path.write_text(head + VRT.format(other))
    with pytest.raises(BadInputError, match="holds something else than its name says"):
        read_polygons(path)


def test_a_damaged_geopackage_is_one_sentence(tmp_path, formats):
    path = write(tmp_path / "a.gpkg", "GPKG", [HOLED])
    content = path.read_bytes()
    path.write_bytes(content[:16] + b"\0" * (len(content) - 16))
    with pytest.raises(BadInputError, match=r"a\.gpkg .*save the area"):
        read_polygons(path)


def test_no_such_file(tmp_path):
    with pytest.raises(BadInputError, match="can't be read"):
        read_polygons(tmp_path / "nowhere.gpkg")
