import json

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.provenance import Provenance
from biomassters.chips.split_labels import SplitLabels
from biomassters.errors import BadInputError
from biomassters.io.raster import write_raster
from biomassters.reporting.split_scores import (
    SplitScores,
    render_split_page,
    score_split,
    told_of_maps,
)
from biomassters.uncertainty.intervals import fit_intervals
from biomassters.uncertainty.options import UncertaintyOptions
from biomassters.uncertainty.residuals import ResidualCounts

SHAPE = (8, 12)
LABELS = {"t0": 100.0, "t1": 40.0, "t2": 250.0}
ERRORS = {"t0": 10.0, "t1": -20.0, "t2": 30.0}  # of every pixel


@pytest.fixture
def labels(tmp_path):
    for chip, value in LABELS.items():
        write_raster(tmp_path / f"{chip}_agbm.tif", np.full(SHAPE, value, np.float32))
    return SplitLabels(str(tmp_path), list(LABELS), SHAPE)


@pytest.fixture
def predictions():
    return {c: np.full(SHAPE, LABELS[c] + ERRORS[c], np.float32) for c in LABELS}


@pytest.fixture
def table():
    months = {"t0": 11, "t1": 11, "t2": 5, "c0": 12}
    return pd.DataFrame(
        {
            "chip_id": list(months),
            "split": ["test", "test", "test", "train"],
            "s2_months": [list(range(count)) for count in months.values()],
            "agb_mean_mg_per_ha": [np.nan, np.nan, np.nan, 120.0],
        }
    )


def test_scores_worked_by_hand(labels, predictions, table):
    found = score_split(labels, predictions, progress=False).summary(table)
    assert found["rmse_per_chip_mean"] == pytest.approx(20.0)  # of 10, 20 and 30
    assert found["bias"] == pytest.approx((10 - 20 + 30) / 3)
    assert (found["chips"], found["chips_listed"]) == (3, 3)
    by_class = {row["biomass_class"]: row["rmse"] for row in found["by_class"]}
    assert by_class["0-50"] == pytest.approx(20.0)
    assert by_class["50-100"] == pytest.approx(10.0)
    assert by_class[">200"] == pytest.approx(30.0)
    assert by_class["100-150"] is None
    assert [(row["group"], row["chips"], row["rmse"]) for row in found["by_s2_months"]] == [
        (5, 1, pytest.approx(30.0)),
        (11, 2, pytest.approx(15.0)),
    ]
    assert found["intervals"] == {"note": "No intervals were given."}
    json.dumps(found, allow_nan=False)


def test_negative_predictions_are_scored_as_they_are(labels, predictions, table):
    predictions["t1"][:] = -60.0  # 100 below 40
    found = score_split(labels, predictions, progress=False).summary(table)
    assert found["rmse_per_chip_mean"] == pytest.approx((10 + 100 + 30) / 3)


def test_coverage_of_intervals(labels, predictions, table):
    """Calibrated on errors of 15 at most: t0 lies inside, t1 and t2 outside."""
    counts, random = ResidualCounts((0.0, 50.0, 100.0, 150.0, 200.0)), np.random.default_rng(0)
    means = []
    for _ in range(120):
        target = random.uniform(0, 300, (20, 20)).astype(np.float32)
        predicted = target + random.uniform(-15, 15, target.shape).astype(np.float32)
        counts.update(predicted, target)
        means.append((float(predicted.mean()), float(target.mean())))
    options = UncertaintyOptions(level=0.9, minimum_pixels=500, class_tolerance=1.0)
    model = fit_intervals(counts, means, options)
    found = score_split(labels, predictions, model, progress=False).summary(table)["intervals"]
    assert found["level"] == 0.9
    assert found["pixel_coverage"] == pytest.approx(1 / 3)


def test_a_chip_without_a_map_is_named(labels, predictions):
    del predictions["t1"]
    with pytest.raises(BadInputError, match=r"lack test chip t1 \(1 of 3\), but .* mean over all"):
        score_split(labels, predictions, progress=False)


def test_labels_of_another_unit(tmp_path, table):
    chips = [f"u{number:02d}" for number in range(20)]
    for chip in chips:
        write_raster(tmp_path / f"{chip}_agbm.tif", np.full(SHAPE, 12.0, np.float32))  # kg/m2
    rows = pd.DataFrame({"chip_id": chips, "split": "test", "s2_months": [[0]] * 20})
    scores = SplitScores(SplitLabels(str(tmp_path), chips, SHAPE))
    for chip in chips:
        scores.add(chip, np.full(SHAPE, 120.0, np.float32))
    with pytest.raises(BadInputError, match=r"mean of 12, the training labels 120 Mg/ha"):
        scores.summary(pd.concat([table[table["split"] == "train"], rows]))


def test_the_page_says_score_classes_months_and_what_made_the_maps(labels, predictions, table):
    scores = score_split(labels, predictions, progress=False)
    summary = scores.summary(table, "None, for a <reason>.")
    made = told_of_maps(
        "w.safetensors", Provenance(views=("identity", "both"), precision="float32")
    )
    page = render_split_page(scores, summary, "test data", True, made)
    for text in ("20.00", "Simulated forest.", "Sentinel-2 months", "identity, both", "float32",
                 "None, for a &lt;reason&gt;."):  # fmt: skip
        assert text in page
    assert "<script" not in page
    assert "src=" not in page.replace('src="data:', "")
