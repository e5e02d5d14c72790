import dataclasses

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.bands import MONTH_NAMES
from biomassters.reporting.chip_maps import (
    PANELS,
    MapScale,
    choose_pictures,
    example_maps,
    panel_figure,
    panels_of,
    preview_sheet,
    rgb_of,
)


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
    s2 = chip.images["s2"].copy()
    july, june = MONTH_NAMES.index("July"), MONTH_NAMES.index("June")
    s2[july, -1] = 90
    image, month = rgb_of(dataclasses.replace(chip, images={**chip.images, "s2": s2}))
    assert month == "June"
    assert image is not None
    assert image.shape == (*chip.shape, 3)
    assert image.dtype == np.float32
    assert 0 <= image.min() < image.max() <= 1
    s2[:, -1] = 90
    s2[0, -1, : chip.shape[0] // 2] = 10
    assert rgb_of(dataclasses.replace(chip, images={**chip.images, "s2": s2}))[1] == "September"
    present = chip.present.copy()
    present[june, 1] = False
    chip = dataclasses.replace(chip, present=present)
    assert rgb_of(chip)[1] == "July"


def test_no_optical_image_of_the_ground(grow_chip):
    chip = grow_chip("c", 60.0)
    clouds = chip.images["s2"].copy()
    clouds[:, -1] = 100
    assert rgb_of(dataclasses.replace(chip, images={**chip.images, "s2": clouds})) == (None, "")
    nothing = np.zeros_like(chip.present)
    assert rgb_of(dataclasses.replace(chip, present=nothing)) == (None, "")


def test_pixels_never_seen_are_grey_and_do_not_stretch_the_rest(grow_chip):
    chip = grow_chip("c", 60.0)
    s2 = chip.images["s2"].copy()
    s2[:, :, 0, 0] = 0
    image, _ = rgb_of(dataclasses.replace(chip, images={**chip.images, "s2": s2}))
    assert image is not None
    np.testing.assert_allclose(image[0, 0], 0.5)
    assert np.median(image[1:]) == pytest.approx(0.5, abs=0.3)


@pytest.mark.parametrize(
    ("agb", "error", "expected"),
    [(0.0, 0.0, (50, 25)), (120.0, 10.0, (150, 25)), (310.0, 80.0, (400, 100))],
)
def test_scales_are_round_and_shared(pictures, agb, error, expected):
    flat = [
        dataclasses.replace(
            picture,
            target=np.full((4, 4), agb * share, np.float32),
            prediction=np.full((4, 4), (agb + error) * share, np.float32),
        )
        for picture, share in zip(pictures, (1.0, 0.5), strict=True)
    ]
    scale = MapScale.of(flat)
    assert (scale.agb_top, scale.residual_top) == expected


def test_few_outliers_do_not_set_the_scale(pictures):
    target = np.zeros((100, 100), np.float32)
    target[0, 0] = 5000
    picture = dataclasses.replace(pictures[0], target=target, prediction=target)
    assert MapScale.of([picture]).agb_top == 50


def test_every_chip_has_its_panels_on_the_same_scales(pictures):
    figure = example_maps(pictures)
    images = [axes.images[0] for axes in figure.axes if axes.images]
    assert len(images) == 5 * len(pictures)
    scale = MapScale.of(pictures)
    for row in range(len(pictures)):
        _, target, prediction, residual, width = images[5 * row : 5 * row + 5]
        assert width.get_clim() == (0, scale.width_top)
        assert target.get_clim() == prediction.get_clim() == (0, scale.agb_top)
        assert residual.get_clim() == (-scale.residual_top, scale.residual_top)
        np.testing.assert_array_equal(residual.get_array(), pictures[row].residual)
    assert any("RMSE" in axes.get_ylabel() for axes in figure.axes)


def test_without_intervals_there_is_no_panel_of_their_width(pictures):
    bare = [dataclasses.replace(picture, interval_width=None) for picture in pictures]
    assert panels_of(pictures) == PANELS
    assert panels_of(bare) == ("rgb", "target", "prediction", "residual")
    images = [axes for axes in example_maps(bare).axes if axes.images]
    assert len(images) == 4 * len(pictures)


def test_scale_bar_is_as_long_as_it_says(pictures):
    figure = panel_figure(pictures[0], "target", MapScale.of(pictures))
    (axes,) = figure.axes
    _, bar = axes.patches
    assert bar.get_width() == 10  # 48 pixels are 480 m; a quarter is nearest to 100 m
    assert [text.get_text() for text in axes.texts] == ["100 m"]


def test_chip_without_an_optical_image_says_so(pictures):
    blind = dataclasses.replace(pictures[0], rgb=None, rgb_month="")
    figure = panel_figure(blind, "rgb", MapScale.of(pictures))
    assert figure.axes[0].get_title() == "No clear optical image"


def test_no_pictures_still_give_a_figure():
    assert example_maps([]).axes


def test_every_map_is_shown_under_its_name_up_to_48():
    few = preview_sheet({f"c{n}": np.full((4, 4), n, np.float32) for n in range(10)})
    shown = [axes.get_title() for axes in few.axes if axes.images]
    assert shown[3] == "c3\nmean 3"
    assert len(shown) == 10
    many = preview_sheet({f"c{n}": np.ones((4, 4), np.float32) for n in range(100)})
    assert len([axes for axes in many.axes if axes.images]) == 34


def test_no_maps_still_give_a_sheet():
    assert preview_sheet({}).axes


def test_pixels_without_label_stay_grey_and_out_of_the_scales(pictures):
    first = pictures[0]
    target = first.target.copy()
    target[:, 20:] = np.nan
    partly = dataclasses.replace(first, target=target)
    assert MapScale.of([partly]).agb_top == MapScale.of([first]).agb_top
    figure = example_maps([partly])
    shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert np.ma.getmaskarray(shown[1])[:, 20:].all()
    assert not np.ma.getmaskarray(shown[1])[:, :20].any()
