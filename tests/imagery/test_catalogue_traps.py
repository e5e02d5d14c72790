"""What public catalogues serve, and what was read from it once: the table of cases.

Each is asked of ``mapping``'s way to the images, which is that of the cube (``compose_s2`` and
``compose_s1``); values are known, so that a wrong asset or offset shows as a number.
"""

from pathlib import Path

import numpy as np
import pytest
from tests.fixtures.catalogue import CLEAR, CLOUD, NORTH, SIZE, WEST, Scenes
from tests.regions.conftest import everything_at

from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import Grid
from biomassters.imagery.scene_reader import close_files
from biomassters.regions.inputs.source import open_region
from biomassters.regions.options import AreaOptions, ImageOptions


@pytest.fixture
def scenes(tmp_path):
    (tmp_path / "served").mkdir()
    return Scenes(tmp_path / "served")


def s2_of(scenes):
    """Sentinel-2 of the only month, [11, h, w]."""
    return everything_at(scenes.collect()).images["s2"][0]


def s1_of(scenes):
    """Sentinel-1 of the only month in dB, [4, h, w]."""
    return everything_at(scenes.collect()).images["s1"][0] / 100


@pytest.mark.parametrize("shape", ["pc", "es"])
def test_items_as_both_catalogues_serve_them(scenes, shape):
    """Bands and SCL; neither AOT (77), nor visual (78), nor a twin in a bucket without access."""
    counts = {band: 1100 + 100 * n for n, band in enumerate(
        ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B11", "B12"))}  # fmt: skip
    scl = np.full((SIZE, SIZE), CLEAR)
    scl[:20, :20] = CLOUD
    scenes.s2("a", scl=scl, shape=shape, bands=counts)
    s2 = s2_of(scenes)
    assert [int(np.unique(band).item()) for band in s2[:10]] == [n - 1000 for n in counts.values()]
    assert (s2[10, :20, :20] == 90).all()
    assert (s2[10, 20:] == 0).all()


def test_a_jpeg_2000_twin_that_comes_first_is_never_opened(scenes):
    """Nor one that could be: here it lies beside the bands and holds 77."""

    def twin_first(item):
        twin = {"href": item["assets"]["aot"]["href"], "type": "image/jp2",
                "eo:bands": [{"name": "blue", "common_name": "blue"}]}  # fmt: skip
        item["assets"] = {"blue-jp2": twin, **item["assets"]}

    scenes.s2("a", 1300, shape="es", prepare=twin_first)
    assert (s2_of(scenes)[0] == 300).all()


def with_bands(item):
    for asset in item["assets"].values():
        if "eo:bands" in asset:
            asset["bands"] = [{**asset.pop("eo:bands")[0], "raster:scale": 1e-4,
                               "raster:offset": -0.1}]  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [
        {"baseline": "05.09"},
        {"baseline": None, "s2:product_uri": "S2A_MSIL2A_20210710T095031_N0509_R079_T35VLJ_.SAFE"},
        {"baseline": None, "raster": {"scale": 0.0001, "offset": -0.1, "nodata": 0}},
        {"baseline": None, "prepare": with_bands},
    ],
    ids=["baseline", "product name", "raster:bands", "bands of STAC 1.1"],
)
def test_the_offset_of_baseline_04_in_four_forms(scenes, metadata):
    scenes.s2("a", 1300, **metadata)
    assert (s2_of(scenes)[:10] == 300).all()


def test_scale_and_offset_in_the_tags_of_the_file(scenes):
    scenes.s2("a", 1300, baseline=None, tags=(0.0001, -0.1))
    assert (s2_of(scenes)[:10] == 300).all()


def test_a_swath_edge_of_zeros_without_a_nodata_tag(scenes):
    """The next scene fills it, though classes of the first one know nothing of the edge."""
    first = np.full((SIZE, SIZE), 1300)
    first[:, 40:] = 0
    scenes.s2("a", first)
    scenes.s2("b", 1500, when="2021-07-20T09:50:31Z")
    s2 = s2_of(scenes)
    # 20 m bands end with the pair of columns.
    assert np.unique(s2[:10, :, :40]).tolist() == [300]
    assert np.unique(s2[:10, :, 40:]).tolist() == [500]
    assert (s2[10] == 0).all()


def test_a_clear_scene_counts_before_a_clouded_one_that_comes_first(scenes):
    scenes.s2("a", 9000, CLOUD, when="2021-07-01T09:50:31Z")
    scenes.s2("b", 1300, CLEAR, when="2021-07-20T09:50:31Z")
    s2 = s2_of(scenes)
    assert (s2[:10] == 300).all()
    assert (s2[10] == 0).all()


def test_clouds_of_one_scene_are_not_those_of_another(scenes):
    scenes.s2("clear", 1300, None, clouds=0.0, when="2021-07-01T09:50:31Z")
    scenes.s2("clouded", 9000, CLOUD, clouds=100.0, when="2021-07-20T09:50:31Z")
    s2 = s2_of(scenes)
    assert (s2[:10] == 300).all()
    assert (s2[10] == 255).all()


def test_bands_of_20_m_keep_their_values(scenes):
    rows, columns = np.indices((SIZE // 2, SIZE // 2))
    checker = np.where((rows + columns) % 2, 2250, 1500) + 1000
    scenes.s2("a", 1300, bands={"B5": checker})
    expected = np.repeat(np.repeat(checker - 1000, 2, axis=0), 2, axis=1)
    np.testing.assert_array_equal(s2_of(scenes)[3], expected)


def test_linear_power_with_a_bright_town_becomes_db(scenes):
    town = np.full((SIZE, SIZE), -10.0)
    town.flat[: int(0.006 * SIZE**2)] = 12.0  # power of 16
    scenes.s1("a", town)
    db = s1_of(scenes)
    gamma0_to_sigma0 = 10 * np.log10(np.cos(np.deg2rad(38.5)))
    np.testing.assert_allclose(db[2], town + gamma0_to_sigma0, atol=0.006)
    np.testing.assert_allclose(db[3], -16 + gamma0_to_sigma0, atol=0.006)
    assert (db[:2] == -327.68).all()


def test_the_same_from_items_of_no_known_collection(scenes):
    """Neither power nor dB is stated: most backscatter in dB is negative, and power never is."""
    town = np.full((SIZE, SIZE), -10.0)
    town.flat[: int(0.006 * SIZE**2)] = 12.0
    scenes.s1("linear", town, collection="my-scenes", when="2021-07-01T04:00:00Z")
    scenes.s1("db", -10.0, unit="dB", collection="my-scenes", orbit="ascending")
    db = s1_of(scenes)
    np.testing.assert_allclose(db[2], town, atol=0.006)
    np.testing.assert_allclose(db[0], -10, atol=0.006)


def test_two_scenes_of_an_orbit_are_averaged_as_power(scenes):
    """(10^-1 + 10^-1.6) / 2 is -12.04 dB."""
    for day, db in ((3, -10.0), (15, -16.0)):
        scenes.s1(f"day{day}", db, orbit="ascending", when=f"2021-07-{day:02}T16:00:00Z",
                  **{"view:incidence_angle": 0.0})  # fmt: skip
    np.testing.assert_allclose(s1_of(scenes)[0], -12.04, atol=0.006)


def test_addresses_that_are_signed_again_are_the_same_images(tmp_path):
    def identity(signature):
        made = Scenes(tmp_path / "served")
        made.s2("a", 1300)
        made.s1("b")
        for item in made.items:
            for asset in item["assets"].values():
                asset["href"] = f"file-less://host{asset['href']}?{signature}"
        from biomassters.imagery.catalogues import presets
        from biomassters.imagery.scenes import scene_of

        return [scene_of(item, presets()[1]).identity() for item in made.items]

    (tmp_path / "served").mkdir()
    assert identity("sig=one&se=1") == identity("sig=two&se=2")


def test_a_scene_with_a_file_that_is_gone_is_named_and_left_out(scenes, caplog):
    scenes.s2("a", 1300, when="2021-07-01T09:50:31Z")
    scenes.s2("b", 1500, when="2021-07-20T09:50:31Z")
    (scenes.folder / "a" / "B08.tif").unlink()
    assert (s2_of(scenes)[:10] == 500).all()
    assert "Scene a is left out" in caplog.text
    assert "B08.tif is not there" in caplog.text


def test_a_year_of_scenes_keeps_few_files_open(tmp_path):
    """12 months × 8 scenes × 11 layers once were 1,067 open files."""
    made = Scenes(tmp_path)
    first = made.s2("a", 1300)
    base = dict(first)
    made.items.clear()
    for month in range(12):
        for number in range(8):
            when = f"{2020 + (month >= 4)}-{(month + 8) % 12 + 1:02}-{number + 1:02}T09:50:31Z"
            properties = base["properties"] | {"datetime": when}
            made.items.append(base | {"id": f"m{month}n{number}", "properties": properties})
    before = len(list(Path("/proc/self/fd").iterdir()))
    images = everything_at(made.collect())
    assert images.months == tuple(range(12))
    assert (images.images["s2"][:, :10] == 300).all()
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 100


def test_scenes_that_are_not_needed_are_not_read(catalogue_server):
    """The first of eight covers everything: of the others only the classes are looked at."""
    made = Scenes(catalogue_server.folder, catalogue_server.url)
    for number in range(8):
        made.s2(f"n{number}", 1300, when=f"2021-07-{number + 1:02}T09:50:31Z")
    s2 = everything_at(made.collect()).images["s2"][0]
    assert (s2[:10] == 300).all()
    bands = [path for path, _ in catalogue_server.requests if not path.endswith("SCL.tif")]
    assert {path.split("/")[1] for path in bands if path.endswith("B08.tif")} == {"n0"}
    assert not [path for path in bands if path.endswith(("AOT.tif", "TCI.tif"))]
    # HEAD and GET of each scene's classes and of the first one's bands.
    assert len(catalogue_server.requests) <= 8 * 2 + 10 * 2


def test_the_look_before_the_first_pixel_is_small(catalogue_server):
    """19.2 MB of one band once, whatever the area."""
    made = Scenes(catalogue_server.folder, catalogue_server.url)
    size = 2048
    noise = np.random.default_rng(0).integers(1200, 1500, (size, size))
    made.s2("a", noise, size=size)
    west, north = WEST + 1000, NORTH - 1000
    area = AreaOptions(bounds=(west, north - 640, west + 640, north), bounds_crs="EPSG:32635")
    place = made.collect()
    whole = sum(file.stat().st_size for file in catalogue_server.folder.rglob("*.tif"))
    source = open_region(str(place), ImageOptions(), area)
    assert source.grid.shape == (64, 64)
    assert whole > 10e6
    assert catalogue_server.bytes_sent < 0.3e6


def test_neither_baseline_nor_offset_is_left_out_under_snow_and_said(scenes, caplog):
    """Bright everywhere: the pixels can't tell whether 1,000 of it are the offset."""
    scenes.s2("a", 6000, baseline=None)
    assert (s2_of(scenes)[:10] == 0).all()
    assert "neither baseline nor offset stated" in caplog.text


def test_pixels_tell_that_an_offset_is_off_already(scenes, caplog):
    """As for items 66 and 71 of Earth Search, which came out negative."""
    scenes.s2("a", 300, baseline="05.09")
    assert (s2_of(scenes)[:10] == 300).all()
    assert "100% of its blue counts lie below 1,000: the offset is off already; corrected" in (
        caplog.text
    )


def test_pixels_tell_that_an_offset_is_still_there(scenes, caplog):
    scenes.s2("a", 1300, shape="es", **{"earthsearch:boa_offset_applied": True})
    assert (s2_of(scenes)[:10] == 300).all()
    assert "it is still there; corrected" in caplog.text


def test_valid_pixels_stay_above_zero(scenes):
    values = np.full((SIZE, SIZE), 1300)
    values[:10] = 900
    scenes.s2("a", values)
    s2 = s2_of(scenes)
    assert (s2[:10, :10] == 1).all()
    assert (s2[:10, 10:] == 300).all()


def test_another_utm_zone_is_interpolated(tmp_path):
    """A plane tilted east, in zone 34 on the grid of zone 35: bilinear keeps it."""
    from rasterio.crs import CRS
    from rasterio.transform import from_origin
    from rasterio.warp import transform

    from biomassters.imagery.catalogues import read_catalogue
    from biomassters.imagery.scene_reader import read_band
    from biomassters.imagery.scenes import scene_of

    crs = CRS.from_epsg(32635)
    (x,), (y,) = transform(crs, CRS.from_epsg(32634), [WEST], [NORTH])
    west, north = round(x / 20) * 20 - 1000.0, round(y / 20) * 20 + 1000.0
    size = 256
    plane = np.broadcast_to(2000 + 10 * np.arange(size), (size, size))
    made = Scenes(tmp_path)
    item = made.s2("a", plane, size=size, west=west, north=north, crs="EPSG:32634", tile="34VER")
    scene = scene_of(item, read_catalogue("planetary-computer"))
    grid = Grid(crs, from_origin(WEST, NORTH, 10, 10), 64, 64)
    columns, rows = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    xs, _ = transform(crs, CRS.from_epsg(32634), (WEST + 10 * columns).ravel(),
                      (NORTH - 10 * rows).ravel())  # fmt: skip
    expected = 2000 + 10 * ((np.array(xs) - west) / 10 - 0.5).reshape(64, 64)
    found = read_band(scene, "B2", grid)
    close_files()
    assert np.abs(found - expected).max() <= 1.5  # nearest would err by up to 5


def test_radar_geometry_is_refused_with_the_remedy(tmp_path):
    import rasterio
    from rasterio.control import GroundControlPoint

    made = Scenes(tmp_path)
    item = made.s1("grd", collection="sentinel-1-grd")
    for key in ("vv", "vh"):
        points = [GroundControlPoint(r, c, 25 + c * 1e-4, 62 - r * 1e-4)
                  for r in (0, 63) for c in (0, 63)]  # fmt: skip
        path = Path(item["assets"][key]["href"])
        path.unlink()
        with rasterio.open(path, "w", driver="GTiff", count=1, height=64, width=64,
                           dtype="float32", gcps=points, crs="EPSG:4326") as file:  # fmt: skip
            file.write(np.ones((1, 64, 64), np.float32))
    with pytest.raises(BadInputError, match=r"radar geometry .*s1_catalogue=planetary-computer"):
        everything_at(made.collect())
