import numpy as np
import pytest

from biomassters.chips.split_labels import SplitLabels, check_unit
from biomassters.errors import BadInputError
from biomassters.io.raster import write_raster

CHIPS, SHAPE = ("a", "b"), (8, 12)


@pytest.fixture
def folder(tmp_path):
    for number, chip in enumerate(CHIPS):
        write_raster(tmp_path / f"{chip}_agbm.tif", np.full(SHAPE, 60.0 + number, np.float32))
    return tmp_path


def test_labels_of_all_chips(folder):
    labels = SplitLabels(str(folder), CHIPS, SHAPE)
    assert {chip: float(labels[chip].mean()) for chip in labels} == {"a": 60.0, "b": 61.0}
    assert len(labels) == 2


def test_no_folder_says_how_to_fetch_them(tmp_path):
    with pytest.raises(BadInputError, match=r"no test labels .*sensors=test_label.*test_labels="):
        SplitLabels(str(tmp_path / "none"), CHIPS, SHAPE)


@pytest.mark.parametrize(
    ("chips", "said"),
    [
        (("a", "b", "c"), "it lacks c"),
        (("a",), "it holds b"),
        (("x",), r"it lacks x \(1 such\) and holds a \(2 such\)"),
    ],
)
def test_labels_of_other_chips(folder, chips, said):
    with pytest.raises(BadInputError, match=said):
        SplitLabels(str(folder), chips, SHAPE)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.ones((8, 8), np.float32), "has 8 x 8 pixels, the chips 8 x 12"),
        (np.ones((3, *SHAPE), np.float32), "has 3 bands"),
        (np.ones(SHAPE, np.float64), "float64"),
        (np.full(SHAPE, np.nan, np.float32), "NaN"),
        (np.full(SHAPE, -1, np.float32), "negative"),
        (np.full(SHAPE, 2e5, np.float32), "more than any forest"),
    ],
)
def test_a_label_of_another_size_or_kind(folder, image, said):
    write_raster(folder / "b_agbm.tif", image)
    labels = SplitLabels(str(folder), CHIPS, SHAPE)
    with pytest.raises(BadInputError, match=rf"test chip b .*{said}"):
        labels["b"]


@pytest.mark.parametrize(
    ("mean", "refused"), [(63.5, False), (21, False), (6.35, True), (635, True)]
)
def test_another_unit_shows_in_the_mean(mean, refused):
    if refused:
        with pytest.raises(BadInputError, match="look like another unit"):
            check_unit([mean] * 20, 63.5)
    else:
        check_unit([mean] * 20, 63.5)


def test_a_few_chips_say_nothing_of_the_unit():
    check_unit([6.35] * 19, 63.5)
    check_unit([6.35] * 20, float("nan"))
