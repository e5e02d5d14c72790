"""From a STAC API to a cube, on loopback: values, record, interruption, what is asked."""

import hashlib
import json

import numpy as np
import pytest
from tests.fixtures.catalogue import CLOUD, SIZE, Scenes
from tests.imagery.conftest import BOUNDS, imagery_options, made_cube, planned, write_year
from tests.regions.conftest import everything_at

from biomassters.errors import BadInputError
from biomassters.imagery import catalogues
from biomassters.imagery.cube_writer import check_place, write_cube


def everything_in(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_from_the_api_to_the_cube(year, catalogue_server, tmp_path):
    catalogue_server.page = 3
    options = imagery_options(f"{catalogue_server.url}/stac")
    group, record = made_cube(options, tmp_path / "out")
    assert {method for method, _ in catalogue_server.searches} <= {"GET", "POST"}
    # Twelve months of two collections, and pages beyond the first.
    assert len(catalogue_server.searches) >= 24
    present = np.asarray(group["present"])
    assert np.flatnonzero(present.all(axis=1)).tolist() == [0, 3, 4, 10]
    rows, columns = np.indices((SIZE, SIZE))
    for month in (0, 3, 4, 10):
        s2 = np.asarray(group["s2"][month])
        np.testing.assert_array_equal(s2[0], 300 + rows + columns + 10 * month)
        assert (s2[10] == 0).all()
        s1 = np.asarray(group["s1"][month]) / 100
        sigma0 = 10 * np.log10(np.cos(np.deg2rad(38.5)))
        for band, level in enumerate((-9, -15, -11, -17)):
            np.testing.assert_allclose(s1[band], level + sigma0, atol=0.006)
    assert (np.asarray(group["s2"][1]) == 0).all()
    september = record["months"][0]
    assert september["name"] == "September"
    assert [scene["id"] for scene in september["s2"]["scenes"]] == ["better0"]
    assert september["s2"]["scenes"][0]["pixels"] == SIZE**2
    assert september["s2"]["scenes"][0]["counts_taken_off"] == 1000
    assert september["s2"]["cloud_probability_from"] == ["scene classes"]
    assert september["s1"]["orbits"] == ["asc", "desc"]


def test_mapping_and_xarray_read_the_cube(year, catalogue_server, tmp_path, optional):
    options = imagery_options(f"{catalogue_server.url}/stac")
    group, _ = made_cube(options, tmp_path)
    images = everything_at(tmp_path / "cube.zarr")
    assert images.months == (0, 3, 4, 10)
    np.testing.assert_array_equal(images.images["s2"][0], np.asarray(group["s2"][0]))
    np.testing.assert_array_equal(images.images["s1"][2], np.asarray(group["s1"][4]))
    xarray = optional("xarray")
    with xarray.open_zarr(tmp_path / "cube.zarr", consolidated=False) as cube:
        assert cube["s1"].dims == ("month", "s1_band", "y", "x")
        assert float(cube["s1"][0, 0].mean()) == pytest.approx(-9 - 1.06, abs=0.01)
        assert float(cube["x"][0]) == BOUNDS[0] + 5


def test_the_table_says_what_became_of_every_scene(year, catalogue_server, tmp_path):
    old = year.s2("better0-old", 5000, when="2020-09-25T09:50:31Z", baseline="02.14")
    year.s2("lacking", 1300, when="2020-09-26T09:50:31Z", prepare=lambda i: i["assets"].pop("B8A"))
    year.s2("elsewhere", 1300, when="2020-09-27T09:50:31Z", tile="35VLH", west=BOUNDS[0] + 630)
    assert old["properties"]["s2:mgrs_tile"] == "35VLJ"
    table = planned(imagery_options(f"{catalogue_server.url}/stac"), tmp_path).table()
    rows = table.set_index("scene")
    assert rows.loc["better0", ["use", "order", "area_clear_percent"]].tolist() == ["used", 1, 100]
    assert rows.loc["cloudy0", "use"] == "spare"
    assert rows.loc["better0-old", "reason"] == "better0 is a newer processing of it"
    assert rows.loc["lacking", "reason"] == "has no GeoTIFF of B8A"
    assert table["month"].is_monotonic_increasing or set(table["sensor"]) == {"s1", "s2"}


def test_one_place_in_two_utm_zones_is_taken_once(catalogue_server, tmp_path):
    from rasterio.warp import transform

    scenes = Scenes(catalogue_server.folder, catalogue_server.url)
    (x,), (y,) = transform("EPSG:32635", "EPSG:32634", [BOUNDS[0]], [BOUNDS[3]])
    west, north = round(x / 20) * 20 - 1000.0, round(y / 20) * 20 + 1000.0
    scenes.s2("other", 1300, size=256, crs="EPSG:32634", tile="34VER", west=west, north=north)
    scenes.s2("own", 1500)
    scenes.s2("later", 1500, CLOUD, when="2021-07-12T09:50:31Z")
    catalogue_server.items = scenes.items
    options = imagery_options(f"{catalogue_server.url}/stac", s1_catalogue="none")
    choice = planned(options, tmp_path)
    assert choice.grid.crs.to_epsg() == 32635
    rows = choice.table().set_index("scene")
    assert rows.loc["other", "reason"] == "the same pass is there in the cube's UTM zone"
    assert [scene.id for scene in choice.scenes[10, "s2"]] == ["own", "later"]


def test_a_cube_that_was_interrupted_has_the_same_bytes_and_reads_nothing_twice(
    year, catalogue_server, tmp_path, monkeypatch
):
    from biomassters.io.files import RowJournal

    options = imagery_options(f"{catalogue_server.url}/stac")
    scratch = tmp_path / "cut" / "scratch"
    choice = planned(options, scratch)
    append, blocks = RowJournal.append, []

    def stop_at_the_fourth(journal, key, value):
        append(journal, key, value)
        blocks.append(key)
        if sum(name[:2] in ("s1", "s2") for name in blocks) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RowJournal, "append", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            write_cube(choice, tmp_path / "cut/cube.zarr", scratch, options)
    assert not (tmp_path / "cut/cube.zarr").exists()
    catalogue_server.requests.clear()
    again = planned(options, scratch)
    assert not catalogue_server.requests  # the choice was made
    record = write_cube(again, tmp_path / "cut/cube.zarr", scratch, options)
    read = {path.split("/")[1] for path, _ in catalogue_server.requests}
    assert read & {"better4", "better10"}
    assert not read & {"better0", "ascending0", "better3", "ascending3"}
    _, whole = made_cube(options, tmp_path / "whole")
    assert record == whole
    assert everything_in(tmp_path / "cut/cube.zarr") == everything_in(tmp_path / "whole/cube.zarr")


RUN = """
import sys
from pathlib import Path
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.cube_plan import plan_cube
from biomassters.imagery.cube_writer import write_cube
from biomassters.imagery.search import plan_search
entries, out, given = sys.argv[1:]
options = ImageryOptions.model_validate_json(given)
scratch = Path(out, "scratch")
scratch.mkdir(parents=True, exist_ok=True)
stand_still_at(int(entries))
choice = plan_cube(plan_search(options).run(), options, scratch)
write_cube(choice, Path(out, "cube.zarr"), scratch, options)
"""


@pytest.mark.slow
def test_kill_9_and_run_again(catalogue_server, tmp_path, fork):
    """A process that is killed at the journal, wherever it is then."""
    scenes = Scenes(catalogue_server.folder, catalogue_server.url)
    write_year(scenes, (0, 3))
    catalogue_server.items = scenes.items
    options = imagery_options(f"{catalogue_server.url}/stac", reader_threads=2)
    _, whole = made_cube(options, tmp_path / "whole")
    out = tmp_path / "killed"
    journal = out / "scratch" / "journal.jsonl"
    for entries in (2, 4, 5):
        process = fork(RUN, entries, out, options.model_dump_json())
        while not journal.exists() or journal.read_text().count("\n") < entries:
            assert process.poll() is None
        process.kill()
        process.wait()
        assert not (out / "cube.zarr").exists()
    _, record = made_cube(options, out)
    assert record == whole
    assert everything_in(out / "cube.zarr") == everything_in(tmp_path / "whole/cube.zarr")


def test_a_truncated_scene_is_named_and_the_next_one_stands_in(year, catalogue_server, tmp_path,
                                                               caplog):  # fmt: skip
    catalogue_server.cut["better3/B08.tif"] = 700
    options = imagery_options(f"{catalogue_server.url}/stac")
    group, record = made_cube(options, tmp_path)
    assert (np.asarray(group["s2"][3])[0] == 5000).all()
    assert record["lost"]["better3"]["kind"] == "damaged"
    assert "Scene better3 is left out from here on" in caplog.text
    from biomassters.pipelines.imagery.nodes import require_whole_scenes

    with pytest.raises(BadInputError, match="better3 could not be read and the next scenes stand"):
        require_whole_scenes(record, "")


def test_a_file_that_is_gone_is_named_and_no_fault_of_the_cube(year, catalogue_server, tmp_path):
    catalogue_server.answers["better3/B08.tif"] = 404
    _, record = made_cube(imagery_options(f"{catalogue_server.url}/stac"), tmp_path)
    assert record["lost"]["better3"]["kind"] == "gone"
    from biomassters.pipelines.imagery.nodes import require_whole_scenes

    require_whole_scenes(record, "")


def preset(tmp_path, server):
    """Planetary Computer's, with loopback's tokens."""
    from biomassters.imagery import catalogues

    text = (catalogues._PRESETS / "planetary-computer.yml").read_text()
    text = text.replace("[blob.core.windows.net]", "['127.0.0.1']")
    path = tmp_path / "loopback.yml"
    path.write_text(text.replace("https://planetarycomputer.microsoft.com/api/sas/v1", server.url))
    return path


def test_signatures_are_asked_for_renewed_and_never_kept(year, catalogue_server, tmp_path, caplog):
    catalogues._tokens.clear()
    catalogue_server.token = "nobody has it yet"
    changes = {"catalogue": str(preset(tmp_path, catalogue_server))}
    options = imagery_options(f"{catalogue_server.url}/stac", **changes)
    scratch = tmp_path / "out/scratch"
    choice = planned(options, scratch)
    assert catalogue_server.tokens_given > 0
    catalogue_server.token = "expired"  # all that was given until now is refused from here on
    given = catalogue_server.tokens_given
    record = write_cube(choice, tmp_path / "out/cube.zarr", scratch, options)
    assert catalogue_server.tokens_given > given
    assert not record["lost"]
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if b"PLANTED" in path.read_bytes()]
    assert "PLANTED" not in caplog.text


def test_access_that_is_refused_stops_the_run_and_keeps_what_is_done(year, catalogue_server,
                                                                     tmp_path):  # fmt: skip
    options = imagery_options(f"{catalogue_server.url}/stac")
    choice = planned(options, tmp_path)
    catalogue_server.answers["better10/B04.tif"] = 403
    with pytest.raises(BadInputError, match=r"B04.tif may not be read: access is refused: .*kept"):
        write_cube(choice, tmp_path / "cube.zarr", tmp_path, options)
    kept = (tmp_path / "journal.jsonl").read_text()
    assert '"s2 04 0 0"' in kept
    assert '"s2 10 0 0"' not in kept


def test_a_cube_that_exists_is_kept(tmp_path):
    (tmp_path / "cube.zarr").mkdir()
    with pytest.raises(BadInputError, match=r"exists: add '--params imagery.overwrite=true'"):
        check_place(tmp_path / "cube.zarr", imagery_options("x"))
    check_place(tmp_path / "cube.zarr", imagery_options("x", overwrite=True))
    with pytest.raises(BadInputError, match=r"ends in \.zarr"):
        check_place(tmp_path / "cube", imagery_options("x"))


def test_a_polygon_s_blocks_alone_are_composed(year, catalogue_server, tmp_path, monkeypatch):
    """Blocks without anything of the area are not read, and hold no data."""
    from biomassters.imagery import cube_writer

    monkeypatch.setattr(cube_writer, "_BLOCK", (32, 32))
    monkeypatch.setattr(cube_writer, "CHUNK", 16)
    west, south, east, north = BOUNDS
    ring = [[west, south], [west + 150, south], [west, north - 10], [west, south]]
    crs = {"type": "name", "properties": {"name": "EPSG:32635"}}
    corner = [[east - 20, south], [east, south], [east, south + 20], [east - 20, south]]
    multi = {"type": "MultiPolygon", "crs": crs, "coordinates": [[ring], [corner]]}
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps(multi))
    options = imagery_options(f"{catalogue_server.url}/stac", area=str(area), bounds=None)
    group, record = made_cube(options, tmp_path)
    s2 = np.asarray(group["s2"][0])
    assert (s2[0, :31, 32:] == 0).all()
    assert (s2[0, -32:] > 0).all()
    assert record["months"][0]["s2"]["share_with_data"] == 1
