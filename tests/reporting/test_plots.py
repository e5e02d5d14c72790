import numpy as np
import pandas as pd
import pytest

from biomassters.metrics import CLASS_NAMES, DensityHistogram, ScoreAccumulator
from biomassters.reporting.plots import class_plot, density_plot, learning_plot


@pytest.fixture
def density() -> DensityHistogram:
    density = DensityHistogram(bins=80)
    target = np.repeat(np.arange(1.0, 240.0, 2), 20).reshape(60, 40)
    density.update("a", 0.5 * target + 30, target)
    return density


def test_density_shows_the_mean_prediction_by_target(density):
    axes, *_ = density_plot(density).axes
    one_to_one, mean = axes.lines
    assert one_to_one.get_xdata()[-1] == one_to_one.get_ydata()[-1] == 250
    centres, means = mean.get_data()
    np.testing.assert_allclose(means, 0.5 * centres + 30, atol=density.edges[1])
    assert axes.get_xlabel() == "Target AGB, Mg/ha"


def test_density_leaves_out_outliers_from_axes_and_mean(density):
    density.update("b", np.array([[20.0]]), np.array([[5000.0]]))
    axes, *_ = density_plot(density).axes
    assert axes.get_xlim() == (0, 250)
    assert axes.lines[1].get_xdata().max() < 250


def test_plots_of_nothing_are_drawn_all_the_same(tmp_path):
    nothing = ScoreAccumulator().by_class()
    for figure in (
        density_plot(DensityHistogram()),
        class_plot(nothing),
        learning_plot(pd.DataFrame()),
    ):
        figure.savefig(tmp_path / "figure.png")


def test_classes_are_drawn_in_order(scores):
    (axes,) = class_plot(scores.accumulator.by_class()).axes
    assert tuple(label.get_text() for label in axes.get_xticklabels()) == CLASS_NAMES
    assert [label.get_text() for label in axes.get_legend().get_texts()] == ["RMSE", "bias"]


def test_learning_curve_draws_whole_epochs_from_zero(history):
    (axes,) = learning_plot(history).axes
    assert len(axes.lines) == 3
    assert axes.get_ylim()[0] == 0
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3]


def test_figures_leave_no_global_state(scores):
    from matplotlib import _pylab_helpers

    density_plot(scores.density)
    assert not _pylab_helpers.Gcf.figs
