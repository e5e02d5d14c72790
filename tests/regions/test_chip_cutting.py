"""Chips cut from a region: the same as chips of the place, and labelled where the label is."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RasterWindow
from tests.regions.conftest import WEST, write_tif

from biomassters.chips.archive.archive import Archive, UsableChips
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.bands import SENSORS
from biomassters.chips.chip import Chip
from biomassters.chips.quality.chip_table import InspectionOptions, inspect_archive
from biomassters.chips.quality.verification import VerificationOptions, verify_archive
from biomassters.chips.store.writer import write_store
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference
from biomassters.regions.chip_cutting import plan_chips, write_region_chips
from biomassters.regions.inputs.source import open_region
from biomassters.regions.labels import Label
from biomassters.regions.options import (
    AreaOptions,
    ImageOptions,
    LabelOptions,
    RegionChipsOptions,
)
from biomassters.simulation.options import RegionSimulationOptions, SimulationOptions
from biomassters.simulation.random_fields import Window
from biomassters.simulation.simulated_chips import SimulatedChips, write_simulated
from biomassters.simulation.simulated_region import SimulatedRegion

OPTIONS = RegionSimulationOptions(width=256, height=192, months=(0, 1, 9, 10), seed=3)
STRICT = InspectionOptions(on_damaged="stop", on_incomplete="stop")


def chips_of(folder, label=None, label_options=None, area=None, **options):
    source = open_region(str(folder), ImageOptions(), area or AreaOptions())
    labels = Label.open(label or folder / "agb.tif", label_options or LabelOptions())
    return plan_chips(source, labels, RegionChipsOptions(chip=64, **options))


def written_directly():
    """The same places, made without any region's file; named as the cut chips are."""
    region = SimulatedRegion(OPTIONS)
    tile = region.tile(Window(0, 0, 192, 256))
    for row in range(3):
        for column in range(4):
            here = (..., slice(64 * row, 64 * row + 64), slice(64 * column, 64 * column + 64))
            images = {one.name: one.unpack(tile.images[one.name][here]).copy() for one in SENSORS}
            present = region.present.copy()
            for one in SENSORS:
                year = images[one.name]
                present[:, one.column] &= one.seen(year).any(axis=(1, 2))
                year[~present[:, one.column]] = one.nodata
            north = OPTIONS.north_m - 640 * row
            transform = (10.0, 0.0, OPTIONS.west_m + 640 * column, 0.0, -10.0, north)
            place = Georeference("EPSG:3067", transform)
            name = f"r{row:03d}c{column:03d}"
            yield Chip(name, "train", images, present, tile.agb_mg_per_ha[here], place)


def contents(folder):
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in (".tif", ".csv"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def packed(root, path):
    """Every file checked, every chip usable, and the chip store's fingerprint."""
    archive = Archive.open(root)
    path.parent.mkdir(exist_ok=True)
    checked = verify_archive(archive, path.parent, VerificationOptions())
    assert set(checked["status"]) == {"right"}
    table, _ = inspect_archive(archive, STRICT, verification=checked)
    assert table["usable"].all()
    return write_store(path, UsableChips(archive, table)), table


def test_cut_chips_are_those_of_the_place_bit_for_bit(region_folder, tmp_path):
    """The archives have the same bytes, so what is packed and trained on is the same."""
    cut, direct = tmp_path / "cut", tmp_path / "direct"
    assert write_region_chips(chips_of(region_folder), cut, progress=False)
    write_archive(direct, written_directly(), progress=False)
    assert contents(cut) == contents(direct)
    assert len(contents(cut)) > 12 * 5
    stores = [packed(root, tmp_path / root.name / "chips.zarr")[0] for root in (cut, direct)]
    assert stores[0].fingerprint == stores[1].fingerprint


@pytest.mark.slow
def test_training_on_cut_chips_equals_training_on_those_of_the_place(
    region_folder, tmp_path, one_thread, new_small_network, small_options
):
    from biomassters.training.train import train

    write_region_chips(chips_of(region_folder), tmp_path / "cut", progress=False)
    write_archive(tmp_path / "direct", written_directly(), progress=False)
    states = []
    for name in ("cut", "direct"):
        store, _ = packed(tmp_path / name, tmp_path / name / "chips.zarr")
        result = train(
            new_small_network(), store.split("train"), range(8), range(8, 12),
            small_options(epochs=1), tmp_path / name / "checkpoints",
            fingerprint=store.fingerprint,
        )  # fmt: skip
        states.append(result.last_state)
    for name, value in states[0].items():
        assert (value == states[1][name]).all(), name


def test_partly_labelled_chips_say_where_they_have_no_label(region_folder, tmp_path):
    """The simulated label lies west of a slanting line, in 20 m pixels."""
    chips = chips_of(region_folder, region_folder / "label.tif", minimum_labelled=0.3)
    write_region_chips(chips, tmp_path / "cut", progress=False)
    archive = Archive.open(tmp_path / "cut")
    with rasterio.open(region_folder / "agb.tif") as file:
        truth = file.read(1)
    shares = {}
    for name in archive.chip_ids():
        agb = archive.read_chip(name).agb_mg_per_ha
        row, column = int(name[1:4]) * 64, int(name[5:]) * 64
        here = truth[row : row + 64, column : column + 64]
        coarse = here.reshape(32, 2, 32, 2).mean(axis=(1, 3), dtype=np.float64).repeat(2, 0)
        labelled = np.isfinite(agb)
        np.testing.assert_allclose(agb[labelled], coarse.repeat(2, 1)[labelled], rtol=1e-5)
        shares[name] = labelled.mean()
        columns = (column + np.arange(1, 64, 2)) / 256
        rows = (row + np.arange(1, 64, 2)) / 192
        expected = columns[None] < 0.6 - 0.2 * rows[:, None]
        np.testing.assert_array_equal(labelled[::2, ::2], expected)
    assert min(shares.values()) >= 0.3
    assert 0 < sum(share < 1 for share in shares.values()) < len(shares)
    _, table = packed(tmp_path / "cut", tmp_path / "cut" / "chips.zarr")
    assert table["agb_mean_mg_per_ha"].notna().all()
    with rasterio.open(
        tmp_path / "cut/train_agbm" / f"{min(shares, key=shares.get)}_agbm.tif"
    ) as f:
        assert np.isnan(f.nodata)  # a GIS shows the gap as one


def test_nan_in_a_label_that_does_not_say_so_is_still_damage(region_folder, tmp_path):
    write_region_chips(chips_of(region_folder), tmp_path / "cut", progress=False)
    path = next((tmp_path / "cut/train_agbm").iterdir())
    with rasterio.open(path, "r+") as file:
        values = file.read()
        values[0, 3, 4] = np.nan
        file.write(values)
    with pytest.raises(BadInputError, match="1 NaN or infinite value"):
        Archive.open(tmp_path / "cut").read_chip(path.name.removesuffix("_agbm.tif"))


def test_outside_the_area_there_is_no_label(region_folder, tmp_path):
    west, north = OPTIONS.west_m, OPTIONS.north_m
    ring = [[west, north], [west + 2560, north], [west, north - 1920], [west, north]]
    content = {
        "type": "Polygon",
        "coordinates": [ring],
        "crs": {"type": "name", "properties": {"name": "EPSG:3067"}},
    }
    (tmp_path / "area.geojson").write_text(json.dumps(content))
    area = AreaOptions(file=str(tmp_path / "area.geojson"))
    chips = list(chips_of(region_folder, area=area))
    assert {chip.chip_id for chip in chips} == {
        "r000c000", "r000c001", "r000c002", "r001c000", "r001c001", "r002c000",
    }  # fmt: skip
    # Whole are chips whose lower right corner has (column + 1) / 4 + (row + 1) / 3 <= 1.
    whole = {"r000c000", "r000c001", "r001c000"}
    assert {chip.chip_id for chip in chips if np.isfinite(chip.agb_mg_per_ha).all()} == whole


def test_the_same_chips_are_not_written_again(region_folder, tmp_path):
    root = tmp_path / "cut"
    assert write_region_chips(chips_of(region_folder), root, progress=False)
    assert Archive.open(root).origin == {"dataset": "cut", "simulated": True}
    assert not write_region_chips(chips_of(region_folder), root, progress=False)
    other = chips_of(region_folder, region_folder / "label.tif")
    assert write_region_chips(other, root, progress=False)
    assert len(Archive.open(root).chip_ids()) == len(other) < 12


def test_archives_of_another_kind_are_never_replaced(region_folder, tmp_path):
    simulated = SimulatedChips(SimulationOptions(train_chips=1, test_chips=0, chip_size=32))
    write_simulated(simulated, tmp_path / "simulated")
    with pytest.raises(BadInputError, match="holds the simulated archive"):
        write_region_chips(chips_of(region_folder), tmp_path / "simulated", progress=False)
    write_region_chips(chips_of(region_folder), tmp_path / "cut", progress=False)
    with pytest.raises(BadInputError, match="cut from a region"):
        write_simulated(simulated, tmp_path / "cut")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(BadInputError, match="not generated here"):
        write_region_chips(chips_of(region_folder), tmp_path / "mine", progress=False)


def test_label_and_images_that_do_not_meet_are_refused(region_folder, tmp_path):
    far = write_tif(tmp_path / "far.tif", np.full((1, 9, 9), 50, np.float32), west=WEST + 50_000)
    with pytest.raises(BadInputError, match="do not overlap: they cover 26"):
        chips_of(region_folder, far)
    small = write_tif(tmp_path / "small.tif", np.full((1, 32, 64), 50, np.float32))
    with pytest.raises(BadInputError, match="label on 60% of its pixels, the best one on 50%"):
        chips_of(region_folder, small, minimum_labelled=0.6)
    source = open_region(str(region_folder), ImageOptions(), AreaOptions())
    with pytest.raises(BadInputError, match=r"chip is 320 pixels, and .* has 256 x 192"):
        plan_chips(source, Label.open(small, LabelOptions()), RegionChipsOptions(chip=320))


def test_an_image_without_data_in_a_chip_is_none(region_folder, tmp_path):
    """In one month Sentinel-1 saw the west only; elsewhere the chip has no such image."""
    for path in region_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with rasterio.open(tmp_path / "S1_09.tif", "r+") as file:
        file.write(np.full((4, 192, 128), -32768, np.int16), window=RasterWindow(128, 0, 128, 192))
    chips = {chip.chip_id: chip for chip in chips_of(tmp_path)}
    assert chips["r000c000"].present[9, 0]
    assert not chips["r000c002"].present[9, 0]
    assert (chips["r000c002"].images["s1"][9] == -9999).all()
