"""Runs side by side, from records that real runs of a small pipeline leave."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import CSVDataset, ParquetDataset

from biomassters.errors import BadInputError
from biomassters.lineage.run_comparison import (
    draw_runs,
    parameter_table,
    read_record,
    read_runs,
    score_table,
)

from .test_run_record import halve, run

STORE = {"pack": {"run": "", "fingerprints": {"chip_store": "the chips"}}}


def make_run(folder: Path, name: str, rmse: list[float], *, nodes=STORE, **parameters) -> None:
    place = folder / "reports" / name
    place.mkdir(parents=True)
    record = run(place, halve)
    record["runs"][-1]["parameters"] |= {"training": parameters}
    record["nodes"] |= nodes
    (place / "run.json").write_text(json.dumps(record))
    metrics = {
        "rmse_per_chip_mean": sum(rmse) / len(rmse),
        "baseline_ridge_rmse": 40.508,
        "interval_pixel_coverage": 0.9006,
    }
    (place / "metrics.json").write_text(json.dumps(metrics))
    chips = [f"{number}e5" for number in range(len(rmse))]  # names, not numbers
    pd.DataFrame({"chip_id": chips, "rmse": rmse}).to_csv(place / "per_chip.csv", index=False)
    (folder / "models" / name).mkdir(parents=True)
    history = {"epoch": [1, 2], "train_loss": [60.0, 50.0],
               "validation_rmse_per_chip_mean": [float("nan"), rmse[0]]}  # fmt: skip
    pd.DataFrame(history).to_parquet(folder / "models" / name / "history.parquet")


@pytest.fixture
def catalog(tmp_path):
    """Of the environment whose dataset is called base; the runs are base, wide and odd."""
    make_run(tmp_path, "base", [30.0, 20.0, 10.0], epochs=13, rate=0.005, crop=None)
    make_run(tmp_path, "wide", [29.0, 18.0, 10.0], epochs=13, rate=0.02, crop=None)
    make_run(tmp_path, "odd", [9.0, 9.0], nodes={}, epochs=2, rate=0.005, crop=None)
    reports = tmp_path / "reports/base"
    return DataCatalog(
        {
            "run_record": JSONDataset(filepath=str(reports / "run.json")),
            "metrics": JSONDataset(filepath=str(reports / "metrics.json")),
            "scores_per_chip": CSVDataset(filepath=str(reports / "per_chip.csv")),
            "training_history": ParquetDataset(
                filepath=str(tmp_path / "models/base/history.parquet")
            ),
        }
    )


def test_scores_stand_side_by_side(catalog):
    table = score_table(read_runs(catalog, ["base", "wide", "odd"]))
    assert table.index.tolist() == ["base", "wide", "odd"]
    assert table["RMSE"].tolist() == ["20.00", "19.00", "9.00"]
    assert table["ridge"].tolist() == ["40.51"] * 3
    assert table["coverage"].tolist() == ["90.1%"] * 3
    assert set(table["status"]) == {"finished"}


def test_the_difference_is_that_of_the_same_chips(catalog):
    """-1, -2 and 0: mean -1, standard deviation 1, over the root of 3. Others' chips: none."""
    table = score_table(read_runs(catalog, ["base", "wide", "odd"]))
    assert table["difference"].tolist() == ["", "-1.00 ± 0.58", ""]


def test_only_parameters_that_differ_are_listed(catalog):
    table = parameter_table(read_runs(catalog, ["base", "wide"]))
    assert table.to_dict("index") == {"training.rate": {"base": "0.005", "wide": "0.02"}}
    assert parameter_table(read_runs(catalog, ["wide"])).empty


def test_what_no_score_depends_on_is_no_difference(catalog, tmp_path):
    """A sweep in the same folder, or who did the work; the options of the training are one."""
    path = tmp_path / "reports/wide/run.json"
    record = json.loads(path.read_text())
    record["runs"][-1]["parameters"] |= {"sweep": {"trials": 3}, "dask": {"workers": 2}}
    path.write_text(json.dumps(record))
    table = parameter_table(read_runs(catalog, ["base", "wide"]))
    assert table.index.tolist() == ["training.rate"]


def test_without_names_all_runs_are_read(catalog):
    assert list(read_runs(catalog)) == ["base", "odd", "wide"]


def test_the_picture_has_every_run(catalog):
    figure = draw_runs(read_runs(catalog))
    scores, curves = figure.axes
    assert [label.get_text() for label in scores.get_yticklabels()] == ["base", "odd", "wide"]
    assert [line.get_label() for line in curves.lines] == ["base", "odd", "wide"]
    assert curves.lines[0].get_xydata().tolist() == [[2.0, 30.0]]


def test_a_run_without_scores_is_listed_all_the_same(catalog, tmp_path):
    for name in ("metrics.json", "per_chip.csv"):
        (tmp_path / "reports/odd" / name).unlink()
    (tmp_path / "models/odd/history.parquet").unlink()
    runs = read_runs(catalog)
    assert score_table(runs)["RMSE"].tolist() == ["20.00", "", "19.00"]
    assert len(draw_runs(runs).axes[1].lines) == 2


def test_an_unknown_run_gets_one_sentence(catalog):
    with pytest.raises(BadInputError, match=r"^There is no run 'wid'; did you mean 'wide'\?$"):
        read_runs(catalog, ["base", "wid"])


def test_no_run_at_all_gets_one_sentence(catalog, tmp_path):
    for path in (tmp_path / "reports").glob("*/run.json"):
        path.unlink()
    with pytest.raises(BadInputError, match=r"There is no run of this version in .*/reports"):
        read_runs(catalog)


def test_a_record_of_another_version_is_refused_by_name_and_left_out_of_the_list(
    catalog, tmp_path, caplog
):
    path = tmp_path / "reports/odd/run.json"
    record = json.loads(path.read_text())
    del record["format"]
    record["runs"][-1]["code"]["version"] = "0.1.0"
    path.write_text(json.dumps(record))
    with pytest.raises(BadInputError, match=r"another version of biomassters \(0\.1\.0, format 1;"):
        read_runs(catalog, ["odd"])
    with caplog.at_level(logging.WARNING):
        assert list(read_runs(catalog)) == ["base", "wide"]
    assert "odd is left out" in caplog.text


@pytest.mark.parametrize("content", ["[]", "{}", '{"runs": []}', "{half", '{"runs": [1]}'])
def test_what_is_no_record_is_refused(tmp_path, content):
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(BadInputError, match=r"run\.json"):
        read_record(path)
