import dataclasses

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.bands import MONTH_NAMES
from biomassters.reporting.pictures import choose_pictures, rgb_of


def scored(forest, rmse: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"chip_id": forest.chip_ids[: len(rmse)], "rmse": rmse})


def test_from_best_to_worst(forest, maps):
    table = scored(forest, [3.0, 1.0, 5.0, 4.0, 2.0])
    pictures = choose_pictures(forest, maps, table, 3)
    assert [p.chip_id for p in pictures] == ["c1", "c0", "c2"]
    assert [p.place for p in pictures] == ["best of 5", "median", "worst of 5"]
    shown = pictures[0]
    np.testing.assert_allclose(shown.residual, 20 - 0.3 * shown.target, rtol=1e-4, atol=1e-4)
    assert pictures[0].rgb_month == "July"


def test_fewer_chips_than_wanted_and_equal_scores(forest, maps):
    pictures = choose_pictures(forest, maps, scored(forest, [1.0, 1.0]), 4)
    assert [p.chip_id for p in pictures] == ["c0", "c1"]
    (only,) = choose_pictures(forest, maps, scored(forest, [1.0]), 4)
    assert only.place == "the only one"
    (one_of_many,) = choose_pictures(forest, maps, scored(forest, [1.0, 2.0, 3.0]), 1)
    assert (one_of_many.chip_id, one_of_many.place) == ("c1", "median")
    best, worst = choose_pictures(forest, maps, scored(forest, [1.0, 2.0]), 4)
    assert (best.place, worst.place) == ("best of 2", "worst of 2")


def test_leafy_month_before_a_clearer_one(grow_chip):
    chip = grow_chip("c", 60.0)
    s2 = chip.s2.copy()
    july, june = MONTH_NAMES.index("July"), MONTH_NAMES.index("June")
    s2[july, -1] = 90
    image, month = rgb_of(dataclasses.replace(chip, s2=s2))
    assert month == "June"
    assert image is not None
    assert image.shape == (*chip.shape, 3)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    s2[:, -1] = 90
    s2[0, -1, : chip.shape[0] // 2] = 10
    assert rgb_of(dataclasses.replace(chip, s2=s2))[1] == "September"
    present = chip.present.copy()
    present[june, 1] = False
    chip = dataclasses.replace(chip, present=present)
    assert rgb_of(chip)[1] == "July"


def test_no_optical_image_of_the_ground(grow_chip):
    chip = grow_chip("c", 60.0)
    clouds = chip.s2.copy()
    clouds[:, -1] = 100
    assert rgb_of(dataclasses.replace(chip, s2=clouds)) == (None, "")
    nothing = np.zeros_like(chip.present)
    assert rgb_of(dataclasses.replace(chip, present=nothing)) == (None, "")


def test_pixels_never_seen_are_grey_and_do_not_stretch_the_rest(grow_chip):
    chip = grow_chip("c", 60.0)
    s2 = chip.s2.copy()
    s2[:, :, 0, 0] = 0
    image, _ = rgb_of(dataclasses.replace(chip, s2=s2))
    assert image is not None
    np.testing.assert_allclose(image[0, 0], 0.5)
    assert np.median(image[1:]) == pytest.approx(0.5, abs=0.3)
