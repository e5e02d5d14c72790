import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.chips.provenance import Provenance
from biomassters.chips.split_labels import SplitLabels
from biomassters.errors import BadInputError
from biomassters.io.raster import write_raster
from biomassters.reporting.baselines import in_chip_regression
from biomassters.reporting.chip_maps import choose_pictures
from biomassters.reporting.label_scores import (
    LabelledArchive,
    correlation,
    render_archive_page,
    render_split_page,
    rmse,
    score_archive,
    score_split,
    summarise_split,
    told_of_maps,
)
from biomassters.reporting.scoring import Scores
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
    found = summarise_split(score_split(labels, predictions, progress=False), labels, table)
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
    found = summarise_split(score_split(labels, predictions, progress=False), labels, table)
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
    scores = score_split(labels, predictions, model, progress=False)
    found = summarise_split(scores, labels, table)["intervals"]
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
    labels, scores = SplitLabels(str(tmp_path), chips, SHAPE), Scores()
    for chip in chips:
        scores.add(chip, np.full(SHAPE, 120.0, np.float32), labels[chip])
    with pytest.raises(BadInputError, match=r"mean of 12, the training labels 120 Mg/ha"):
        summarise_split(scores, labels, pd.concat([table[table["split"] == "train"], rows]))


def test_the_page_says_score_classes_months_and_what_made_the_maps(labels, predictions, table):
    scores = score_split(labels, predictions, progress=False)
    summary = summarise_split(scores, labels, table, "None, for a <reason>.")
    made = told_of_maps(
        "w.safetensors", Provenance(views=("identity", "both"), precision="float32")
    )
    page = render_split_page(scores, summary, "test data", True, made)
    for text in ("20.00", "Simulated forest.", "Sentinel-2 months", "identity, both", "float32",
                 "None, for a &lt;reason&gt;."):  # fmt: skip
        assert text in page
    assert "<script" not in page
    assert "src=" not in page.replace('src="data:', "")


def test_chips_with_a_label_and_all_their_images_are_chosen(tmp_path, make_chip):
    chips = [make_chip("0a"), make_chip("0b"), make_chip("0c"), make_chip("0d", "test")]
    one_month = make_chip("0e", s1_months=(0,), s2_months=(0,))
    write_archive(tmp_path / "x", [*chips, one_month], progress=False)
    Archive.open(tmp_path / "x").label_path("0b").unlink()
    Archive.open(tmp_path / "x").feature_path("0c", "s1", 3).unlink()
    found = LabelledArchive(Archive.open(tmp_path / "x"))
    assert found.chip_ids == ("0a",)
    assert (found.height, found.width) == (32, 32)
    label = np.empty((32, 32), np.float32)
    found.read_agb_into(0, label)
    np.testing.assert_array_equal(label, chips[0].agb_mg_per_ha)


def test_an_archive_without_labels_is_refused(tmp_path, make_chip):
    write_archive(tmp_path / "x", [make_chip("0a", "test")], progress=False)
    with pytest.raises(BadInputError, match="none of them has a label: name an archive with"):
        LabelledArchive(Archive.open(tmp_path / "x"))


def test_one_of_lost_images_is_refused(tmp_path, make_chip):
    write_archive(tmp_path / "x", [make_chip("0a")], progress=False)
    Archive.open(tmp_path / "x").feature_path("0a", "s1", 3).unlink()
    with pytest.raises(BadInputError, match="none of them has all its images"):
        LabelledArchive(Archive.open(tmp_path / "x"))


def test_measures_worked_by_hand():
    one, other = np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 3.0])
    assert rmse(one, other) == pytest.approx(np.sqrt(4 / 3))
    assert correlation(one, other) == pytest.approx(2 / np.sqrt(2 * 14 / 3))
    assert np.isnan(correlation(one, np.ones(3)))


def test_scores_of_an_archive_worked_by_hand(forest):
    """Maps 20 Mg/ha too high where they are above 0: negative ones are scored as 0."""
    maps = {chip.chip_id: chip.agb_mg_per_ha + 20 for chip in forest.chips}
    maps["c0"] = np.full_like(maps["c0"], -5)
    scores = score_archive(forest, maps, 50.0, progress=False)
    table = scores.per_chip().set_index("chip_id")
    assert table.loc["c3", "rmse"] == pytest.approx(20)
    assert table.loc["c3", "bias"] == pytest.approx(20)
    assert table.loc["c3", "correlation"] == pytest.approx(1)
    labels = {chip.chip_id: chip.agb_mg_per_ha.astype(float) for chip in forest.chips}
    assert table.loc["c0", "rmse"] == pytest.approx(np.sqrt((labels["c0"] ** 2).mean()))
    assert np.isnan(table.loc["c0", "correlation"])
    assert table.loc["c2", "mean_rmse"] == pytest.approx(np.sqrt(((labels["c2"] - 50) ** 2).mean()))
    # What the bands show of biomass is linear in them: a regression in the chip reads it.
    assert table.loc["c5", "linear_rmse"] < 0.5 * labels["c5"].std()
    summary = scores.summary("none here")
    assert summary["rmse_per_chip_mean"] == pytest.approx(table["rmse"].mean())
    assert summary["intervals"] == {"note": "none here"}
    assert summary["chips"][0]["correlation"] is None
    json.dumps(summary, allow_nan=False)


def test_the_regression_in_a_chip_is_never_negative_and_needs_no_label_everywhere(forest):
    chip = forest.chips[4]
    agb = chip.agb_mg_per_ha.copy()
    agb[:4] = np.nan
    predicted = in_chip_regression(replace(chip, agb_mg_per_ha=agb))
    assert predicted.min() >= 0
    assert rmse(predicted[:4], chip.agb_mg_per_ha[:4]) < 0.7 * chip.agb_mg_per_ha.std()


def test_the_page_shows_chips_and_what_they_are_compared_with(forest, maps):
    scores = score_archive(forest, maps, 63.5, progress=False)
    pictures = choose_pictures(forest, maps, scores.per_chip(), 2)
    page = render_archive_page(
        scores, scores.summary("No intervals."), pictures, "my <chips>", [("weights", "starter")]
    )
    assert "Checked against labels: my &lt;chips&gt;" in page
    assert page.count("<svg") == 2
    assert all(chip_id in page for chip_id in forest.chip_ids)
    assert "63.5 Mg/ha everywhere" in page
    assert "No intervals." in page
    assert "<script" not in page
