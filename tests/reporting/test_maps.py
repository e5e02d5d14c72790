import dataclasses

import numpy as np
import pytest

from biomassters.reporting.maps import PANELS, MapScale, example_maps, panel_figure, panels_of


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
