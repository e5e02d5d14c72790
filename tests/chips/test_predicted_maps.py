import numpy as np
import pytest

from biomassters.chips.predicted_maps import Prediction, PredictionFolder, write_predictions
from biomassters.errors import BadInputError
from biomassters.io.raster import read_raster
from biomassters.io.raster_spec import Georeference


def maps(*values):
    for number, value in enumerate(values):
        yield Prediction(f"{number:08x}", np.full((4, 5), value, np.float32))


def test_what_is_written_is_read(tmp_path):
    folder = write_predictions(tmp_path / "maps", maps(1.5, 2.5), "weights")
    assert list(folder) == ["00000000", "00000001"]
    assert len(folder) == 2
    assert folder.weights == "weights"
    np.testing.assert_array_equal(folder["00000001"], np.full((4, 5), 2.5, np.float32))
    with pytest.raises(KeyError):
        folder["foreign"]


def test_membership_does_not_need_the_file(tmp_path):
    folder = write_predictions(tmp_path / "maps", maps(1.0), "weights")
    folder.file("00000000").unlink()
    assert "00000000" in folder
    assert "foreign" not in folder


def test_a_georeference_is_kept(tmp_path):
    place = Georeference("EPSG:3067", (10.0, 0.0, 300000.0, 0.0, -10.0, 7000000.0))
    one = Prediction("a", np.ones((4, 5), np.float32), place)
    folder = write_predictions(tmp_path / "maps", [one], "weights")
    _, read = read_raster(folder.file("a"))
    assert read is not None
    assert read.transform == place.transform


def test_earlier_predictions_survive_a_failure(tmp_path):
    def failing():
        yield from maps(9.0)
        raise RuntimeError("out of memory")

    place = tmp_path / "maps"
    write_predictions(place, maps(1.0, 2.0), "old")
    with pytest.raises(RuntimeError):
        write_predictions(place, failing(), "new")
    assert PredictionFolder(place).weights == "old"
    assert len(PredictionFolder(place)) == 2


def test_a_new_folder_replaces_the_whole_old_one(tmp_path):
    write_predictions(tmp_path / "maps", maps(1.0, 2.0, 3.0), "old")
    folder = write_predictions(tmp_path / "maps", maps(4.0), "new")
    assert sorted(path.name for path in folder.path.glob("*.tif")) == ["00000000_agbm.tif"]


@pytest.mark.parametrize("content", [None, "", "{half"])
def test_an_unfinished_folder_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "predictions.json").write_text(content)
    with pytest.raises(BadInputError, match="run the inference pipeline first"):
        PredictionFolder(tmp_path)
