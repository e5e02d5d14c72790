"""The made-up forest's scores, pictures, tables and report."""

import numpy as np
import pandas as pd
import pytest

from biomassters.chips.chip import Chip
from biomassters.chips.store.reader import StoreSplit
from biomassters.chips.store.writer import write_store
from biomassters.reporting.chip_maps import ChipPicture, choose_pictures
from biomassters.reporting.options import ReportingOptions
from biomassters.reporting.report import ReportContent, UncertaintyContent, render_report
from biomassters.reporting.scoring import Scores, score_predictions
from biomassters.uncertainty.carbon import account_for_carbon
from biomassters.uncertainty.cross_calibration import calibrate
from biomassters.uncertainty.intervals import IntervalModel
from biomassters.uncertainty.options import UncertaintyOptions


class _Source:
    """The forest, as a chip store takes it in."""

    def __init__(self, forest) -> None:
        self._chips = {chip.chip_id: chip for chip in forest.chips}

    def splits(self) -> dict[str, list[str]]:
        return {"train": list(self._chips)}

    def read_chip(self, chip_id: str) -> Chip:
        return self._chips[chip_id]

    def signature(self, chip_id: str) -> str:
        return chip_id


@pytest.fixture(scope="session")
def store_split(forest, tmp_path_factory) -> StoreSplit:
    """The same forest in a chip store."""
    place = tmp_path_factory.mktemp("store") / "chips.zarr"
    return write_store(place, _Source(forest)).split("train")


@pytest.fixture(scope="session")
def scores(forest, maps) -> Scores:
    return score_predictions(forest, maps, ["c1", "c3", "c5"], progress=False)


@pytest.fixture(scope="session")
def pictures(forest, maps, scores) -> list[ChipPicture]:
    intervals = IntervalModel(0.9, (60.0,), (-20.0, -50.0), (30.0, 60.0), (9, 9), 9)
    return choose_pictures(forest, maps, scores.accumulator.per_chip(), 2, intervals)


@pytest.fixture
def history() -> pd.DataFrame:
    """Three epochs, validated from the second on."""
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "learning_rate": [1e-3, 5e-4, 1e-4],
            "train_loss": [60.0, 45.0, 40.0],
            "validation_rmse_per_chip_mean": [np.nan, 50.0, 44.0],
            "validation_rmse_masked_per_chip_mean": [np.nan, 48.0, 42.0],
            "validation_seconds": [0.0, 1.0, 1.0],
        }
    )


@pytest.fixture(scope="session")
def uncertainty_content(forest, maps) -> UncertaintyContent:
    """Intervals, carbon and attention of the forest, calibrated for real at a low level."""
    options = UncertaintyOptions(level=0.5, minimum_pixels=500, resamples=50)
    found = calibrate(forest, maps, list(maps), options)
    models = {"intervals": found.intervals.to_dict(), "errors": found.errors.to_dict()}
    measured = found.coverage.per_chip()
    carbon, _ = account_for_carbon(forest, maps, {"t0": maps["c0"]}, models, measured, options)
    attention = pd.DataFrame(
        [
            (f"c{chip}", stride, month, 1 / 12, month != 3)
            for chip in range(6)
            for stride in (2, 4, 8, 16, 32)
            for month in range(12)
        ],
        columns=["chip_id", "stride", "month", "weight", "has_s2"],
    )
    models |= {"level": options.level, "measured": found.metrics()}
    by_class = found.coverage.by_class()
    return UncertaintyContent(models, found.levels, by_class, measured, carbon, attention)


@pytest.fixture
def content(scores, pictures, history, chip_table, uncertainty_content) -> ReportContent:
    """Everything that a report may show."""
    baselines = {
        "baseline_mean_rmse": 60.0,
        "baseline_ridge_rmse": 45.0,
        "gain_over_mean": 0.5,
        "gain_over_ridge": -0.1,
        "training_mean_agb": 61.5,
        "ridge_pixels": 12800,
    }
    return ReportContent(
        options=ReportingOptions(),
        scores=scores,
        metrics=scores.accumulator.summary() | baselines,
        pictures=pictures,
        history=history,
        chip_table=chip_table,
        recipe={"training": {"epochs": 3, "crop": None}, "views": ["identity", "both"]},
        uncertainty=uncertainty_content,
        fold_of_chip={"c1": 0, "c3": 0, "c5": 1},
        facts={"Software": "Python 3"},
        run_file="run.json",
    )


@pytest.fixture
def full_report(content) -> str:
    return render_report(content, progress=False)
