import numpy as np
import pytest

from biomassters.io.raster_spec import DamagedFileError, describe, image_fault, label_fault

S1 = np.full((4, 4, 4), -12.5, np.float32)
S2 = np.full((11, 4, 4), 300, np.uint16)
LABEL = np.full((4, 4), 60, np.float32)


def changed(array: np.ndarray, value: float, count: int = 1) -> np.ndarray:
    array = array.copy()
    array.flat[:count] = value
    return array


@pytest.mark.parametrize("image", [S1, S2, np.full_like(S1, -9999), changed(S2 * 0, 1)])
def test_sound_images(image: np.ndarray) -> None:
    assert image_fault(image) is None


@pytest.mark.parametrize(
    ("image", "fault"),
    [
        (S1 * 0, "is 0 everywhere"),
        (S2 * 0, "is 0 everywhere"),
        (changed(S1, np.nan), "has 1 NaN or infinite value"),
        (changed(S1, np.inf, 3), "has 3 NaN or infinite values"),
        (changed(S1, -np.inf), "has 1 NaN or infinite value"),
    ],
)
def test_damaged_images(image: np.ndarray, fault: str) -> None:
    assert image_fault(image) == fault


def test_labels() -> None:
    assert label_fault(LABEL) is None
    assert label_fault(LABEL * 0) is None  # a lake
    assert label_fault(changed(LABEL, -0.5, 2)) == "has 2 negative pixels"
    assert label_fault(changed(LABEL, np.nan)) is not None


def test_description() -> None:
    damage = [DamagedFileError("a/1.tif", "is empty"), *[DamagedFileError("a/2.tif", "is 0")] * 2]
    assert describe("1.tif", damage[:1]) == "1.tif is empty"
    assert describe("1.tif", damage[:2]) == "1.tif is empty, and 1 other file is damaged"
    assert describe("1.tif", damage) == "1.tif is empty, and 2 other files are damaged"


def test_a_label_that_may_have_gaps_needs_a_pixel_without():
    partly = np.array([[np.nan, 5.0], [np.nan, np.nan]], np.float32)
    assert label_fault(partly) == "has 3 NaN or infinite values"
    assert label_fault(partly, partly=True) is None
    assert label_fault(-partly, partly=True) == "has 1 negative pixel"
    assert label_fault(partly * np.nan, partly=True) == "has no labelled pixel"
    partly[1] = np.inf
    assert label_fault(partly, partly=True) == "has 2 NaN or infinite values"
