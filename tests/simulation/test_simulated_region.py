import json

import numpy as np
import pytest
import rasterio

from biomassters.errors import BadInputError
from biomassters.simulation.options import RegionSimulationOptions
from biomassters.simulation.random_fields import Window
from biomassters.simulation.simulated_region import SimulatedRegion, write_region
from biomassters.simulation.year import SwathEdge


def region(**options):
    return SimulatedRegion(RegionSimulationOptions(**{"width": 160, "height": 96, **options}))


@pytest.mark.parametrize("seed", [1, 2])
def test_windows_agree_where_they_meet(seed):
    """Made in one piece or in four: the same, but for roundings of float32."""
    made = region(seed=seed)
    whole = made.tile(Window(0, 0, 96, 160))
    for top, left in ((0, 0), (0, 64), (32, 0), (32, 64)):
        part = made.tile(Window(top, left, 64, 96))
        rows, columns = slice(top, top + 64), slice(left, left + 96)
        np.testing.assert_allclose(
            part.agb_mg_per_ha, whole.agb_mg_per_ha[rows, columns], rtol=1e-3, atol=1e-2
        )
        for name, ours in part.images.items():
            theirs = whole.images[name][..., rows, columns]
            different = np.abs(ours.astype(int) - theirs.astype(int)) > 2
            assert different.mean() < 1e-3


def test_a_swath_border_runs_through_all_windows():
    edge = SwathEdge(share=0.4, slope=0.25, from_left=False)
    whole = edge.seen(96, 160)
    part = Window(32, 48, 64, 80)
    np.testing.assert_array_equal(
        edge.within((96, 160), part).seen(*part.shape), whole[32:96, 48:128]
    )


def test_files_are_georeferenced_and_described(tmp_path):
    made = region(width=70, height=50, months=(4, 9), missing_images=False)
    assert write_region(made, tmp_path / "r")
    names = sorted(path.name for path in (tmp_path / "r").glob("*.tif"))
    assert names == ["S1_04.tif", "S1_09.tif", "S2_04.tif", "S2_09.tif", "agb.tif", "label.tif"]
    tile = made.tile(Window(0, 0, 50, 70))
    with rasterio.open(tmp_path / "r/S1_09.tif") as file:
        assert (file.crs.to_epsg(), file.shape, file.scales[0]) == (3067, (50, 70), 0.01)
        assert file.descriptions == ("VV_asc", "VH_asc", "VV_desc", "VH_desc")
        np.testing.assert_array_equal(file.read(), tile.images["s1"][9])
    with rasterio.open(tmp_path / "r/agb.tif") as file:
        np.testing.assert_array_equal(file.read(1), tile.agb_mg_per_ha)
    assert not write_region(made, tmp_path / "r")
    assert write_region(region(seed=1, width=32, height=32, months=(0,)), tmp_path / "r")
    assert json.loads((tmp_path / "r/region_simulation.json").read_text())["options"]["seed"] == 1


def test_what_was_not_simulated_is_never_overwritten(tmp_path):
    (tmp_path / "S1_00.tif").write_text("precious")
    with pytest.raises(BadInputError, match="holds files that were not simulated"):
        write_region(region(), tmp_path)
    assert (tmp_path / "S1_00.tif").read_text() == "precious"


def test_an_unknown_coordinate_system(tmp_path):
    with pytest.raises(BadInputError, match=r"region_simulation\.crs: EPSG:1 is no coordinate"):
        write_region(region(crs="EPSG:1"), tmp_path / "r")


def test_months_are_months():
    with pytest.raises(BadInputError, match="months are 0"):
        RegionSimulationOptions.model_validate({"months": [12]})


def test_a_part_of_the_region_has_a_label_of_coarser_pixels(tmp_path):
    """The line runs from 60 % of the width at the upper edge to 40 % at the lower one."""
    write_region(region(width=70, height=51, months=(9,)), tmp_path / "r")
    with rasterio.open(tmp_path / "r/agb.tif") as file:
        truth, crs, bounds = file.read(1), file.crs, file.bounds
    with rasterio.open(tmp_path / "r/label.tif") as file:
        label, nodata = file.read(1), file.nodata
        assert (file.crs, file.res, file.bounds.left, file.bounds.top) == (
            crs, (20.0, 20.0), bounds.left, bounds.top,
        )  # fmt: skip
    assert label.shape == (25, 35)
    assert nodata == -1
    assert label[3, 5] == pytest.approx(truth[6:8, 10:12].mean())
    # Of 35 columns of 2 pixels each, those whose middle lies left of the line.
    assert (label != -1).sum(axis=1)[[0, 24]].tolist() == [21, 14]
