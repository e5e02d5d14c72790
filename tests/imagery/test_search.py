"""What is asked of a catalogue, and what becomes of answers that are none."""

import json
from datetime import date

import pystac
import pytest
from tests.fixtures.catalogue import Scenes
from tests.imagery.conftest import BOUNDS, imagery_options, made_cube, planned

from biomassters.datasets.region_images import ItemCollectionDataset
from biomassters.errors import BadInputError
from biomassters.imagery.options import ImageryOptions
from biomassters.imagery.search import plan_search


def test_a_catalogue_that_stumbles_is_asked_again(year, catalogue_server):
    catalogue_server.stumbles = 2
    found = plan_search(imagery_options(f"{catalogue_server.url}/stac")).run()
    assert len(found["features"]) == len(year.items)
    assert all(not item["links"] for item in found["features"])


def test_running_again_needs_no_search(year, catalogue_server, tmp_path):
    dataset = ItemCollectionDataset(filepath=str(tmp_path / "items.json"))
    search = plan_search(imagery_options(f"{catalogue_server.url}/stac"))
    dataset.save(search)
    first = len(catalogue_server.searches)
    assert first >= 24
    dataset.save(search)
    assert len(catalogue_server.searches) == first
    dataset.save(plan_search(imagery_options(f"{catalogue_server.url}/stac", largest_km2=3000)))
    assert len(catalogue_server.searches) == first
    assert len(dataset.load()["features"]) == len(year.items)


def static(scenes: Scenes, folder):
    """A static catalogue of the scenes, as pystac writes it."""
    catalogue = pystac.Catalog("local", "scenes")
    for item in scenes.items:
        catalogue.add_item(pystac.Item.from_dict(item))
    catalogue.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


@pytest.mark.parametrize("kind", ["catalogue", "item collection"])
def test_local_files_are_as_good_as_an_api(tmp_path, kind):
    scenes = Scenes(tmp_path / "scenes")
    scenes.s2("a", 1300)
    scenes.s1("b")
    scenes.s2("elsewhere", 1300, west=700_000)
    place = static(scenes, tmp_path / "stac") if kind == "catalogue" else scenes.collect()
    group, record = made_cube(imagery_options(place), tmp_path)
    assert [month["month"] for month in record["months"]] == [10]
    assert int(group["s2"][10, 0, 0, 0]) == 300
    assert group["s1"][10, 2, 0, 0] == -1106


def refused(options):
    with pytest.raises(BadInputError) as caught:
        plan_search(options).run()
    return str(caught.value)


def test_what_cannot_be_is_said_before_anything_is_asked(catalogue_server):
    url = f"{catalogue_server.url}/stac"

    def sentence(**changes):
        with pytest.raises(BadInputError) as caught:
            plan_search(ImageryOptions.model_validate(imagery_options(url).model_dump() | changes))
        return str(caught.value)

    assert "lies in the future" in sentence(year=date.today().year + 1)
    assert "imagery.year is missing" in sentence(year=None)
    assert "imagery.area is missing" in sentence(bounds=None)
    assert "crosses the antimeridian" in sentence(
        bounds=(179, 60, -179, 61), bounds_crs="EPSG:4326"
    )
    large = sentence(bounds=(25, 60, 27, 62), bounds_crs="EPSG:4326")
    assert "more than imagery.largest_km2 (2,500)" in large
    assert "There is no catalogue nowhere" in sentence(catalogue="nowhere")
    radar = sentence(catalogue="earth-search")
    assert "radar geometry" in radar
    assert "imagery.s1_catalogue=planetary-computer" in radar
    assert catalogue_server.searches == []


def test_no_catalogue_at_the_address(catalogue_server):
    assert "There is no STAC catalogue at" in refused(imagery_options(f"{catalogue_server.url}/no"))
    nobody = imagery_options("http://127.0.0.1:9/stac", retries=1)
    assert "There is no STAC catalogue at" in refused(nobody)
    assert "can't be read" in refused(imagery_options("nowhere.json"))


def test_nothing_in_the_year_or_beyond_the_catalogue(year, catalogue_server):
    url = f"{catalogue_server.url}/stac"
    assert "between September 2017 and August 2018" in refused(imagery_options(url, year=2017))
    west, south, east, north = BOUNDS
    far = imagery_options(url, bounds=(west, south + 9e5, east, north + 9e5))
    assert "No scene of sentinel-1-rtc and sentinel-2-l2a shows" in refused(far)


def test_months_without_scenes_are_named(year, catalogue_server, tmp_path, caplog):
    planned(imagery_options(f"{catalogue_server.url}/stac"), tmp_path)
    assert "No scene of S2 in October, November, February, March" in caplog.text


def test_a_collection_without_the_bands(catalogue_server, tmp_path):
    scenes = Scenes(catalogue_server.folder, catalogue_server.url)
    scenes.s2("a", 1300, prepare=lambda item: item["assets"].pop("B11"))
    catalogue_server.items = scenes.items
    options = imagery_options(f"{catalogue_server.url}/stac", s1_catalogue="none")
    with pytest.raises(BadInputError, match=r"None of the 1 items .* a has no GeoTIFF of B11"):
        planned(options, tmp_path)


def test_an_answer_is_json(year, catalogue_server):
    assert json.dumps(plan_search(imagery_options(f"{catalogue_server.url}/stac")).run())
