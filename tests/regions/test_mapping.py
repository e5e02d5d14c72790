"""The engine from images to a checked map."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import torch
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from biomassters.chips.bands import S1, S2
from biomassters.chips.provenance import Provenance
from biomassters.errors import BadInputError
from biomassters.imagery.pixel_grid import Grid
from biomassters.inference.options import InferenceOptions
from biomassters.inference.predict import predict_batch
from biomassters.io.raster_spec import DamagedFileError
from biomassters.network.weights import load_network, save_network
from biomassters.regions.blocks import BlockFolder
from biomassters.regions.inputs.source import open_region
from biomassters.regions.map_side_files import describe_map
from biomassters.regions.map_writer import AGB, LOWER, MONTHS, UPPER, map_pieces
from biomassters.regions.mapping import (
    Calibration,
    WeightsFiles,
    finish_map,
    plan_region,
    predict_blocks,
    read_calibration,
)
from biomassters.regions.options import AreaOptions, ImageOptions, MappingOptions
from biomassters.regions.predictor import BlockTask, Predictor, predict_region
from biomassters.regions.tiling import Axis, Tiling
from biomassters.regions.visuals import make_picture, quick_look, render_page
from biomassters.reporting.figure_style import bar_length_m
from biomassters.uncertainty.error_model import ErrorModel
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.workers.options import DaskOptions

from .conftest import images_at, month_values, write_month, write_tif

ONE_VIEW = InferenceOptions(views=("identity",), batch_size=3, device="cpu")
CALIBRATION = Calibration(
    IntervalModel(0.9, (50.0,), (-10.0, -20.0), (15.0, 30.0), (100, 100), 10),
    ErrorModel(
        (50.0,), (0.0, 0.0), (10.0, 20.0), (0.0, 20.0), (1.0, 0.0), 1.0, (0.25,) * 4, 0.9, 10
    ),
)


class PixelNetwork(torch.nn.Module):
    """Sees one pixel at a time, so a map knows nothing of chips: the mean VV over the months."""

    width = 1

    def scale(self, images):
        return images["s1"].float() / 100

    def forward_scaled(self, x, chip_of_month, chip_count):
        total = torch.zeros(chip_count, 1, *x.shape[-2:])
        total.index_add_(0, chip_of_month, x[:, :1])
        count = torch.bincount(chip_of_month, minlength=chip_count)
        return total / count[:, None, None, None]


def plan_of(folder, weights, path, *, inference=ONE_VIEW, area=None, **options):
    source = open_region(str(folder), ImageOptions(), AreaOptions(**(area or {})))
    files = WeightsFiles.of((str(weights),), "the weights")
    return plan_region(source, files, path, MappingOptions(**options), inference)


def mapped(plan, scratch, calibration=None):
    scratch.mkdir(parents=True, exist_ok=True)
    predict_blocks(plan, scratch, DaskOptions(), progress=False)
    summary = finish_map(plan, scratch, calibration)
    with rasterio.open(plan.path) as file:
        return file.read(), summary


def pixel_map(folder, scratch, chip=64, overlap=0.3, window=96):
    """A region as ``PixelNetwork`` sees it."""
    source = open_region(str(folder), ImageOptions(check_ranges=False), AreaOptions())
    tiling = Tiling.of(source.grid.shape, chip, overlap, window)
    task = BlockTask(source, list, tiling, ONE_VIEW, 2)
    task._predictor = Predictor([PixelNetwork()], ONE_VIEW, torch.device("cpu"), tiling)
    with BlockFolder(scratch, "job") as blocks:
        predict_region(task, blocks, progress=False)
        out = np.full((4, *source.grid.shape), np.nan, np.float32)
        for piece in map_pieces(tiling, blocks, None, clip_negative=False):
            out[(slice(None), *piece.window.toslices())] = piece.values
    return out


@pytest.mark.parametrize(("chip", "overlap"), [(32, 0.0), (64, 0.3), (96, 0.6)])
def test_a_constant_field_gives_a_constant_map_across_every_seam_and_at_the_edges(
    tmp_path, chip, overlap
):
    images = tmp_path / "images"
    images.mkdir()
    constant = np.full((4, 150, 210), -11.0, np.float32)
    write_tif(images / "S1_00.tif", constant, names=S1.bands)
    agb = pixel_map(images, tmp_path / "scratch", chip, overlap)[AGB]
    assert agb.shape == (150, 210)
    np.testing.assert_allclose(agb, -11.0, atol=1e-5)


def test_the_blend_of_equal_answers_is_the_answer(tmp_path):
    """A network without surroundings: the map is the same, whatever the chips and windows."""
    images = tmp_path / "images"
    images.mkdir()
    write_month(images, 0, 130, 170, seed=1)
    write_month(images, 5, 130, 170, seed=2)
    expected = np.mean([month_values(130, 170, seed)[0][0] for seed in (1, 2)], axis=0)
    for number, chip in enumerate((32, 64, 256)):
        agb = pixel_map(images, tmp_path / f"scratch{number}", chip)[AGB]
        np.testing.assert_allclose(agb, expected, atol=0.006)  # stored in 0.01 dB


def test_no_data_stays_no_data_and_months_are_counted(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    s1, s2 = month_values(100, 100)
    s1[:, :70], s2[:, :, :60] = -9999, 0
    write_tif(images / "S1_00.tif", s1, names=S1.bands, nodata=-9999)
    write_tif(images / "S2_01.tif", s2, names=S2.bands)
    found = pixel_map(images, tmp_path / "scratch", chip=32, overlap=0.0)
    months = (np.arange(100)[:, None] >= 70) * 1 + (np.arange(100)[None] >= 60) * 1
    np.testing.assert_array_equal(np.isnan(found[AGB]), months == 0)
    np.testing.assert_array_equal(np.nan_to_num(found[MONTHS]), months)


def test_a_chip_in_one_window_equals_chip_inference(region_folder, weights, tmp_path):
    inference = ONE_VIEW.model_copy(update={"views": ("identity", "left_right", "up_down", "both")})
    area = {"bounds": (400_320, 6_899_040, 400_960, 6_899_680), "bounds_crs": "EPSG:3067"}
    plan = plan_of(region_folder, weights, tmp_path / "agb.tif", inference=inference, area=area)
    assert plan.source.grid.shape == (64, 64)
    found, _ = mapped(plan, tmp_path / "scratch")
    with ThreadPoolExecutor(1) as pool:
        images = plan.source.read(Window(0, 0, 64, 64), pool)
    expected = predict_batch(
        load_network(weights),
        {name: torch.from_numpy(year) for name, year in images.images.items()},
        torch.zeros(len(images.months), dtype=torch.int64), 1, inference.views,
    )  # fmt: skip
    np.testing.assert_allclose(found[AGB], expected[0], atol=1e-5 * float(expected.max()))


def test_windows_of_256_and_of_512_give_the_same_map(region_folder, weights, tmp_path):
    """What is read at a time is no matter of the map: chips lie in the same places."""
    maps = [
        mapped(plan_of(region_folder, weights, tmp_path / f"{window}.tif", window=window),
               tmp_path / f"scratch{window}")[0][AGB]
        for window in (64, 256, 512)
    ]  # fmt: skip
    spread = maps[2].std()
    assert spread > 0
    for other in maps[:2]:
        assert np.sqrt(np.mean((other - maps[2]) ** 2)) < 0.03 * spread
        np.testing.assert_allclose(other, maps[2], atol=1e-3)


def test_no_seam_shows_where_windows_meet(region_folder, weights, tmp_path):
    """The largest jump across a window's border against those elsewhere in the same rows."""
    plan = plan_of(region_folder, weights, tmp_path / "agb.tif", window=64, overlap=0.5)
    agb = mapped(plan, tmp_path / "scratch")[0][AGB]
    axis = plan.tiling.columns
    borders = {axis.core(block)[0] for block in range(1, axis.block_count)}
    borders |= {axis.extent(block)[1] for block in range(axis.block_count - 1)}
    jump = np.abs(np.diff(agb, axis=1))
    at_border = np.isin(np.arange(1, agb.shape[1]), sorted(borders))
    assert at_border.sum() >= 4
    assert jump[:, at_border].max() <= 1.05 * jump[:, ~at_border].max()
    # Chips begin at even columns, across which neighbours differ more everywhere: the network
    # doubles the size of its features, and Sentinel-2 has pixels of 20 m.
    even = np.arange(1, agb.shape[1]) % 2 == 0
    assert at_border[even].sum() == at_border.sum()
    assert jump[:, at_border].mean() <= 1.05 * jump[:, even & ~at_border].mean()


def test_a_region_smaller_than_a_chip(region_folder, weights, tmp_path):
    area = {"bounds": (400_000, 6_899_600, 400_450, 6_900_000), "bounds_crs": "EPSG:3067"}
    large = tmp_path / "weights.safetensors"
    save_network(load_network(weights), large, {"chip_size": 256})
    plan = plan_of(region_folder, large, tmp_path / "agb.tif", area=area)
    assert plan.tiling.rows.chip == 64
    found, _ = mapped(plan, tmp_path / "scratch")
    assert found.shape == (4, 40, 45)
    assert np.isfinite(found[AGB]).all()


def test_weights_of_chips_too_small_for_their_kernels_map_no_larger_ones(
    region_folder, weights, tmp_path
):
    with pytest.raises(BadInputError, match=r"windows of 64 pixels.*images of 128.*at least 96"):
        plan_of(region_folder, weights, tmp_path / "agb.tif", chip=128)


@pytest.fixture(scope="module")
def finished(region_folder, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    plan = plan_of(region_folder, weights, folder / "agb.tif", first_year=2020)
    values, summary = mapped(plan, folder / "scratch", CALIBRATION)
    return plan, values, summary


def test_the_map_is_a_valid_cog_on_the_images_grid(finished, region_folder):
    plan, values, _ = finished
    assert cog_validate(plan.path, quiet=True)[0]
    with rasterio.open(plan.path) as file, rasterio.open(region_folder / "S1_00.tif") as image:
        assert (file.crs, file.transform, file.shape) == (image.crs, image.transform, image.shape)
        assert file.descriptions == ("AGB", "AGB_lower", "AGB_upper", "months_used")
        assert file.units[0] == "Mg/ha"
        assert np.isnan(file.nodata)
        assert file.tags()["months"] == "00,01,09,10"
        assert file.tags(1)["long_name"] == "Aboveground biomass density"
        assert file.colorinterp[0].name == "gray"
    np.testing.assert_array_equal(values[MONTHS], 4)


def test_intervals_go_with_the_map(finished):
    _, values, _ = finished
    lower, upper = CALIBRATION.intervals.bounds(values[AGB])
    np.testing.assert_array_equal(values[LOWER], lower)
    np.testing.assert_array_equal(values[UPPER], upper)


def test_the_summary_adds_up(finished):
    _, values, summary = finished
    # EPSG:3067 there, 2 degrees from its meridian: a pixel has 0.056 % more than its 100 m².
    assert summary["area_ha"] == pytest.approx(192 * 256 / 100 * 1.00056, rel=1e-5)
    assert summary["biomass_mg"] == pytest.approx(
        values[AGB].astype(float).sum() / 100 * 1.00056, rel=1e-5
    )
    assert summary["biomass_mg_lower"] < summary["biomass_mg"] < summary["biomass_mg_upper"]
    assert summary["carbon_mg"] == pytest.approx(0.47 * summary["biomass_mg"])
    assert sum(summary["histogram"]["area_ha"]) == pytest.approx(summary["area_ha"])
    # 192 x 256 pixels hold one row of two cells. Errors of at most 20 Mg/ha cancel but for 0.5.
    assert (summary["gedi_cells"], summary["gedi_cells_within"]) == (2, 1.0)
    json.dumps(summary)


@pytest.mark.parametrize(
    ("crs", "pixel", "hectares"),
    [
        ("EPSG:3857", 10.0, 9.06),  # 4.70 m on the ground: averaged
        ("EPSG:3857", 20.0, 36.23),  # 9.41 m: interpolated
        ("EPSG:4326", 1e-4, 23.93),  # 5.24 x 11.14 m
        ("EPSG:32635", 10.0, 40.97),  # the map's own: copied
        ("EPSG:32635", 5.0, 10.24),
    ],
)
def test_the_area_with_data_is_that_of_the_images(tmp_path, weights, crs, pixel, hectares):
    """64 x 64 pixels at 62 degrees north, a map of few and whole pixels of 10 m.

    Pixels that an image's edge merely touches once counted whole: 9.68 ha for 9.06.
    """
    (tmp_path / "images").mkdir()
    path = images_at(tmp_path / "images", crs, 25.0, 62.0, pixel)
    with rasterio.open(path) as file:
        there = Grid(file.crs, file.transform, *file.shape)
    assert there.ground.areas_ha().sum() == pytest.approx(hectares, rel=1e-3)
    plan = plan_of(tmp_path / "images", weights, tmp_path / "agb.tif")
    values, summary = mapped(plan, tmp_path / "scratch")
    assert summary["area_ha"] == pytest.approx(hectares, rel=0.01)
    # What a reader of the raster adds up.
    assert np.isfinite(values[AGB]).sum() / 100 == pytest.approx(summary["area_ha"], rel=0.002)


def test_the_stac_item_is_valid(finished, optional):
    import pystac

    optional("jsonschema")  # the validator
    plan, _, summary = finished
    item = pystac.Item.from_dict(describe_map(plan.path, plan.source.grid, summary, 2020))
    item.validate()
    assert item.properties["start_datetime"] == "2020-09-01T00:00:00Z"
    assert item.assets["agb"].href == "agb.tif"
    west, south, east, north = item.bbox
    assert 24 < west < east < 26
    assert 62 < south < north < 63


def test_the_page_holds_everything_and_asks_for_nothing(finished):
    plan, values, summary = finished
    picture = make_picture(plan.path, plan.source)
    page = render_page(picture, summary, "A <region>")
    assert "A &lt;region&gt;" in page
    assert re.findall(r"https?://", page) == []
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', page)
    assert len(sources) == 5  # background and four layers
    assert all(source.startswith("data:image/png") for source in sources)
    assert "default-src 'none'" in page
    np.testing.assert_array_equal(picture.layers["AGB"], values[AGB])


def test_the_page_links_the_map_beside_it(finished):
    plan, _, summary = finished
    picture = make_picture(plan.path, plan.source)
    page = render_page(picture, summary, "A region", plan.path.with_name("a b.tif"))
    links = re.findall(r'<a href="([^"]+)" download>([^<]+)</a>', page)
    assert links == [
        ("a%20b.tif", "a b.tif"), ("a%20b.qml", "a b.qml"),
        ("a%20b.tif.summary.json", "a b.tif.summary.json"),
        ("a%20b.tif.item.json", "a b.tif.item.json"),
    ]  # fmt: skip


def test_colours_of_biomass_and_of_interval_width_end_at_round_values(finished):
    plan, values, _ = finished
    picture = make_picture(plan.path, plan.source)
    width = values[UPPER] - values[LOWER]
    assert picture.width_top == 50 * np.ceil(np.percentile(width, 99.5) / 50)
    assert picture.scale_top % 50 == 0
    bare = replace(picture, layers={name: layer * np.nan for name, layer in picture.layers.items()})
    assert (bare.scale_top, bare.width_top) == (50.0, None)


def test_page_item_and_summary_say_what_the_reader_must_know(finished):
    plan, _, summary = finished
    assert summary["images_simulated"]
    page = render_page(make_picture(plan.path, plan.source), summary, summary["title"])
    carbon = [f"{summary[name]:,.0f}" for name in ("carbon_mg_lower", "carbon_mg_upper")]
    for text in (
        "<h1>Aboveground biomass</h1>", "Simulated images", "September 2020 - August 2021",
        "Fingerprint the weights", f"Made {summary['made']}", "10 held-out chips", *carbon,
        "100% of 2",
        f"{summary['mean_of_map_mg_per_ha']:,.1f}", f"{summary['mean_agb_mg_per_ha']:,.1f}",
    ):  # fmt: skip
        assert text in page
    properties = describe_map(plan.path, plan.source.grid, summary, 2020)["properties"]
    for name in ("carbon_mg_upper", "mean_of_map_mg_per_ha", "mean_agb_mg_per_ha",
                 "images_simulated", "weights_fingerprint"):  # fmt: skip
        assert properties[f"biomassters:{name}"] == summary[name]
    assert properties["title"] == "Aboveground biomass"
    assert "may be too narrow" in properties["description"]


def test_raster_and_page_have_the_same_mean(finished):
    """Weighted by ground area, which differs from pixel to pixel by far less than 0.1 %."""
    _, values, summary = finished
    assert summary["mean_of_map_mg_per_ha"] == pytest.approx(
        values[AGB].mean(dtype=float), rel=1e-4
    )


def test_the_quick_look_has_scale_bar_and_legend(finished):
    plan, _, _ = finished
    figure = quick_look(make_picture(plan.path, plan.source), "map")
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["500 m"]
    assert any("Mg/ha" in axes.get_ylabel() for axes in figure.axes)
    assert [bar_length_m(width) for width in (4000, 9000, 20_480)] == [1000, 2000, 5000]


def test_an_existing_map_is_kept(finished, region_folder, weights):
    plan, _, _ = finished
    with pytest.raises(BadInputError, match=r"agb\.tif exists: add '--params mapping.overwrite=tr"):
        plan_of(region_folder, weights, plan.path)
    plan_of(region_folder, weights, plan.path, overwrite=True)


def test_places_where_no_map_can_lie(region_folder, weights, tmp_path):
    with pytest.raises(BadInputError, match=r"is a folder: give the map a name in it"):
        plan_of(region_folder, weights, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match=r"No map can be written to .*file \("):
        plan_of(region_folder, weights, tmp_path / "file" / "agb.tif")


def test_a_truncated_file_costs_its_blocks_alone(weights, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    profile = {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "pixel"}
    s1, _ = month_values(192, 192)
    path = write_tif(images / "S1_00.tif", s1, **profile)
    plan = plan_of(images, weights, tmp_path / "agb.tif", window=64, overlap=0.0)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.85)])
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(BadInputError, match=r"of 9 blocks could not be mapped. Block 0002-000\d: "):
        predict_blocks(plan, scratch, DaskOptions(), progress=False)
    assert not plan.path.exists()
    done = {file.name for file in scratch.glob("*.sums.npy")}
    assert {f"{row:04d}-{column:04d}.sums.npy" for row in (0, 1) for column in range(3)} <= done
    assert len(done) < 9
    times = {file.name: file.stat().st_mtime_ns for file in scratch.glob("*.sums.npy")}
    # The same at the start of a run: what can be read is no reason to refuse everything.
    plan = plan_of(images, weights, tmp_path / "agb.tif", window=64, overlap=0.0)
    with pytest.raises(BadInputError, match=r"of 9 blocks could not be mapped"):
        predict_blocks(plan, scratch, DaskOptions(), progress=False)
    path.write_bytes(whole)  # mended: only what was missing is done
    plan = plan_of(images, weights, tmp_path / "agb.tif", window=64, overlap=0.0)
    predict_blocks(plan, scratch, DaskOptions(), progress=False)
    assert all((scratch / name).stat().st_mtime_ns == time for name, time in times.items())
    finish_map(plan, scratch, None)
    with rasterio.open(plan.path) as file:
        assert np.isfinite(file.read(1)).all()
        assert np.isnan(file.read([2, 3])).all()


def test_damage_is_named_with_its_cause(tmp_path):
    write_month(tmp_path, 0, 64, 64)
    source = open_region(str(tmp_path), ImageOptions(), AreaOptions())
    (tmp_path / "S2_00.tif").write_bytes((tmp_path / "S2_00.tif").read_bytes()[:5000])
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(DamagedFileError, match=r"S2_00\.tif can't be"),
    ):
        source.read(Window(0, 0, 64, 64), pool)


def test_only_an_error_of_memory_is_taken_for_one(region_folder, weights, tmp_path):
    tiling = Tiling(Axis.of(64, 64, 0, 64), Axis.of(128, 64, 0, 128))
    source = open_region(str(region_folder), ImageOptions(), AreaOptions())
    with ThreadPoolExecutor(1) as pool:
        images = source.read(Window(0, 0, 128, 64), pool)

    class Failing(PixelNetwork):
        def __init__(self, message):
            super().__init__()
            self.message, self.batches = message, []

        def forward_scaled(self, x, chip_of_month, chip_count):
            self.batches.append(chip_count)
            if chip_count > 1:
                raise RuntimeError(self.message)
            return super().forward_scaled(x, chip_of_month, chip_count)

    def predict(network):
        predictor = Predictor([network], ONE_VIEW, torch.device("cpu"), tiling)
        return predictor.predict(tiling.blocks()[0], images)

    small = Failing("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    assert predict(small).chips == 2
    assert small.batches == [2, 1, 1]
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predict(Failing("shapes do not match"))


def test_a_network_that_has_diverged_maps_nothing(region_folder, weights, tmp_path):
    network, facts = load_network(weights), {"chip_size": 64}
    with torch.no_grad():
        network.segmentation_head.bias.fill_(3e38)  # a number, whose sums are none
        network.segmentation_head.weight.fill_(3e38)
    save_network(network, tmp_path / "diverged.safetensors", facts)
    plan = plan_of(region_folder, tmp_path / "diverged.safetensors", tmp_path / "agb.tif")
    with pytest.raises(BadInputError, match=r"predicts NaN or infinite biomass; check that its"):
        mapped(plan, tmp_path / "scratch")
    assert not plan.path.exists()


def test_blocks_of_another_job_are_forgotten(tmp_path, region_folder, weights):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    plan = plan_of(region_folder, weights, tmp_path / "agb.tif")
    predict_blocks(plan, scratch, DaskOptions(), progress=False)
    other = replace(plan, inference=ONE_VIEW.model_copy(update={"views": ("up_down",)}))
    facts = plan.source.file_facts()
    with BlockFolder(scratch, plan.job, facts) as folder:
        assert all(map(folder.has, plan.tiling.blocks()))
    with BlockFolder(scratch, other.job, facts) as folder:
        assert not any(map(folder.has, plan.tiling.blocks()))


def test_blocks_of_changed_images_are_forgotten(tmp_path, weights):
    images, scratch = tmp_path / "images", tmp_path / "scratch"
    images.mkdir()
    scratch.mkdir()
    write_month(images, 0, 64, 64)
    plan = plan_of(images, weights, tmp_path / "agb.tif")
    predict_blocks(plan, scratch, DaskOptions(), progress=False)
    write_month(images, 0, 64, 64, seed=1)
    facts = plan.source.file_facts()
    with BlockFolder(scratch, plan.job, facts) as folder:
        assert not any(map(folder.has, plan.tiling.blocks()))


def test_two_runs_never_share_a_scratch_folder(tmp_path):
    with BlockFolder(tmp_path, "a"), pytest.raises(BadInputError, match="Another run is mapping"):
        BlockFolder(tmp_path, "a")


def test_weights_averaged(region_folder, weights, tmp_path):
    plan = plan_of(region_folder, weights, tmp_path / "one.tif")
    twice = replace(plan, path=tmp_path / "two.tif",
                    weights=replace(plan.weights, paths=(str(weights),) * 2))  # fmt: skip
    one, two = (mapped(p, tmp_path / p.path.stem)[0][AGB] for p in (plan, twice))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_a_calibration_of_other_weights_is_not_used(tmp_path, caplog):
    models = {"intervals": CALIBRATION.intervals.to_dict(), "errors": CALIBRATION.errors.to_dict(),
              "weights_fingerprint": "these"}  # fmt: skip
    path = tmp_path / "uncertainty.json"
    assert read_calibration(path, "these") is None
    assert "there is no" in caplog.text
    path.write_text(json.dumps(models))
    assert read_calibration(path, "these") == CALIBRATION
    assert read_calibration(path, "others") is None
    assert "calibrated for other weights" in caplog.text
    path.write_text("{}")
    with pytest.raises(BadInputError, match="is damaged"):
        read_calibration(path, "these")


def test_a_calibration_of_other_views_is_not_used(tmp_path, caplog):
    made_with = Provenance(views=("identity", "both"), precision="float32")
    models = {"intervals": CALIBRATION.intervals.to_dict(), "errors": CALIBRATION.errors.to_dict(),
              "weights_fingerprint": "these", "made_with": made_with.to_dict()}  # fmt: skip
    path = tmp_path / "uncertainty.json"
    path.write_text(json.dumps(models))
    assert read_calibration(path, "these", made_with) == CALIBRATION
    assert read_calibration(path, "these", replace(made_with, views=("both",))) is None
    assert "this one has views both instead of identity, both" in caplog.text
    found = read_calibration(path, "these", replace(made_with, precision="bfloat16"))
    assert found is not None
    assert found.note == "precision bfloat16 instead of float32"


def test_a_map_says_what_it_was_made_with(region_folder, weights, tmp_path):
    plan = plan_of(region_folder, weights, tmp_path / "agb.tif")
    trained_on = {"simulated": True, "dataset": "simulated", "chips": 160}
    files = replace(plan.weights, description={"trained_on": trained_on})
    mapped(replace(plan, weights=files), tmp_path / "scratch", replace(CALIBRATION, note="x"))
    with rasterio.open(tmp_path / "agb.tif") as file:
        tags = file.tags()
    assert tags["weights_sha256"] == "the weights"
    assert tags["trained_on"] == "a simulated forest (simulated, 160 chips)"
    assert tags["images_simulated"] == "yes"
    assert tags["intervals"] == "level 0.9; calibrated on maps made otherwise (x)"
    assert tags["units"] == "Mg/ha"


def test_networks_that_predict_as_one_all_map(weights):
    files = WeightsFiles.of((str(weights), str(weights)), "both")
    assert len(files.load()) == 2
    assert files.fingerprint == "both"  # that of the calibration
    assert WeightsFiles.of((str(weights),), "one", (str(weights),)).fingerprint != "one"


def test_images_that_were_simulated_say_so(region_folder, tmp_path):
    import shutil

    copied, other = tmp_path / "copied", tmp_path / "other"
    copied.mkdir()
    shutil.copy(region_folder / "S1_00.tif", copied)  # without the note: by its own tag
    other.mkdir()
    write_tif(other / "S1_00.tif", np.full((4, 64, 64), -11.0, np.float32), names=S1.bands)
    found = [
        open_region(str(folder), ImageOptions(check_ranges=False), AreaOptions()).simulated
        for folder in (region_folder, copied, other)
    ]
    assert found == [True, True, False]


def test_no_room(region_folder, weights, tmp_path, monkeypatch):
    import shutil

    plan = plan_of(region_folder, weights, tmp_path / "agb.tif")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with pytest.raises(BadInputError, match="free some space"):
        predict_blocks(plan, scratch, DaskOptions(), progress=False)
    assert list(scratch.iterdir()) == []
