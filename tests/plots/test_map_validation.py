"""Scores of a map at plots, by hand."""

import numpy as np
import pandas as pd
import pytest

from biomassters.plots.map_validation import class_labels, scores, validate


def test_scores_by_hand():
    """Plots 0, 100, 200 and map 20, 100, 180: differences 20, 0, −20."""
    found = scores(np.array([0.0, 100, 200]), np.array([20.0, 100, 180]))
    assert found["bias_mg_per_ha"] == 0
    assert found["rmse_mg_per_ha"] == pytest.approx(np.sqrt(800 / 3))
    assert found["r_squared"] == pytest.approx(1.0)
    assert found["efficiency"] == pytest.approx(1 - 800 / 20_000)
    assert found["bias_standard_error_mg_per_ha"] == pytest.approx(20 / np.sqrt(3))


def test_edges():
    assert scores(np.array([]), np.array([])) == {"plots": 0}
    one = scores(np.array([5.0]), np.array([7.0]))
    assert (one["bias_mg_per_ha"], one["r_squared"]) == (2.0, None)
    assert one["bias_standard_error_mg_per_ha"] is None


def test_by_class_of_the_plots_and_by_stratum():
    plots = pd.DataFrame(
        {"agb": [10.0, 50, 60, 300], "map": [0.0, 60, 60, 200], "stratum": list("abab")}
    )
    found = validate(plots, (50.0, 100.0))
    assert {name: one["plots"] for name, one in found["by_class"].items()} == {
        "0-50": 2, "50-100": 1, "> 100": 1,
    }  # fmt: skip
    assert found["by_class"]["> 100"]["bias_mg_per_ha"] == -100
    assert found["by_stratum"]["a"]["bias_mg_per_ha"] == -5
    assert class_labels(()) == ["all"]
