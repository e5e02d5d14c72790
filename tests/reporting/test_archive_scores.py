import json
from dataclasses import replace

import numpy as np
import pytest

from biomassters.chips.archive.archive import Archive
from biomassters.chips.archive.writer import write_archive
from biomassters.errors import BadInputError
from biomassters.reporting.archive_scores import (
    LabelledArchive,
    correlation,
    render_archive_page,
    rmse,
    score_archive,
)
from biomassters.reporting.baselines import in_chip_regression
from biomassters.reporting.chip_maps import choose_pictures


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


def test_scores_worked_by_hand(forest):
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
