import numpy as np
import pytest
import rasterio

from biomassters.chips.predicted_maps import Prediction, write_predictions
from biomassters.errors import BadInputError
from biomassters.io.raster_spec import Georeference
from biomassters.uncertainty.apply import bounded_maps, say_if_borrowed
from biomassters.uncertainty.intervals import IntervalModel

MODEL = IntervalModel(0.9, (), (-10.0,), (20.0,), (1,), 9)


def test_maps_with_bounds_keep_their_place_and_their_first_band(tmp_path):
    place = Georeference("EPSG:3067", (10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0))
    agb = np.array([[0.0, 5.0], [50.0, 100.0]], np.float32)
    plain = write_predictions(tmp_path / "a", [Prediction("x", agb, place)], "w", "f00d")
    bounded = write_predictions(tmp_path / "b", bounded_maps(plain, MODEL, progress=False), "w")
    one = bounded.read("x")
    np.testing.assert_array_equal(bounded["x"], agb)
    np.testing.assert_array_equal(one.bounds_mg_per_ha[0], [[0, 0], [40, 90]])
    np.testing.assert_array_equal(one.bounds_mg_per_ha[1], agb + 20)
    assert one.georeference == place
    with rasterio.open(bounded.file("x")) as source:
        assert source.descriptions[1].startswith("lower bound")
        assert source.crs.to_epsg() == 3067


def test_borrowed_intervals_are_said(tmp_path, caplog):
    maps = [Prediction("x", np.ones((2, 2), np.float32))]
    folder = write_predictions(tmp_path / "a", maps, "final", "f00d")
    caplog.set_level("INFO", "biomassters")
    say_if_borrowed(folder, "f00d")
    assert not caplog.records
    say_if_borrowed(folder, "beef")
    assert "other than those" in caplog.text


@pytest.mark.parametrize("foreign", [True, False])
def test_a_folder_that_was_tampered_with_is_refused(tmp_path, foreign):
    maps = [Prediction(name, np.ones((2, 2), np.float32)) for name in ("x", "y")]
    folder = write_predictions(tmp_path / "a", maps, "w")
    folder.check_files()
    if foreign:
        (folder.path / "z_agbm.tif").write_bytes(b"")
    else:
        folder.file("y").unlink()
    with pytest.raises(BadInputError, match="z_agbm.tif" if foreign else "lacks y_agbm.tif"):
        folder.check_files()
