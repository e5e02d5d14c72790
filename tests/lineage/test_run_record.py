import json

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner
from kedro_datasets.json import JSONDataset
from pluggy import PluginManager

from biomassters.lineage.chip_counts import count_chips
from biomassters.lineage.run_record import RunRecord


class Context:
    def __init__(self, path):
        self.project_path = path
        self.config_loader = {"parameters": {"a": {"b": 1}}}


def halve(chips: pd.DataFrame) -> pd.DataFrame:
    return chips.iloc[::2]


def fail(chips: pd.DataFrame) -> pd.DataFrame:
    raise RuntimeError("no more memory")


def run(tmp_path, function, name="halve", pipelines=("all",)):
    from kedro.framework.hooks.manager import _create_hook_manager

    record = RunRecord()
    hooks: PluginManager = _create_hook_manager()
    hooks.register(record)
    catalog = DataCatalog(
        {
            "chips": MemoryDataset(pd.DataFrame({"chip_id": list("abcd")})),
            "run_record": JSONDataset(filepath=str(tmp_path / "run.json")),
        }
    )
    pipeline = Pipeline([Node(function, "chips", "fewer", name=name)])
    record.after_context_created(Context(tmp_path))
    record.before_pipeline_run({"pipeline_names": list(pipelines), "env": "test"}, catalog)
    try:
        SequentialRunner().run(pipeline, catalog, hooks)
    except RuntimeError as error:
        record.on_pipeline_error(error, catalog)
        raise
    record.after_pipeline_run(catalog)
    return json.loads((tmp_path / "run.json").read_text())


def test_a_data_set_that_shrinks_is_seen(tmp_path):
    node = run(tmp_path, halve)["nodes"]["halve"]
    assert node["chips_in"] == {"chips": 4}
    assert node["chips_out"] == {"fewer": 2}
    assert node["seconds"] >= 0
    assert node["peak_memory_mib"] > 1


def test_code_parameters_and_machine_are_recorded(tmp_path):
    (only,) = run(tmp_path, halve)["runs"]
    assert only["status"] == "finished"
    assert only["parameters"] == {"a": {"b": 1}}
    assert only["code"]["version"]
    assert only["machine"]["packages"]["numpy"]


def test_a_run_of_other_nodes_forgets_nothing(tmp_path):
    run(tmp_path, halve)
    record = run(tmp_path, halve, "again")
    assert set(record["nodes"]) == {"halve", "again"}
    assert len(record["runs"]) == 2
    assert "parameters" not in record["runs"][0]
    assert "parameters" in record["runs"][1]


def test_a_failed_run_is_recorded(tmp_path):
    with pytest.raises(RuntimeError):
        run(tmp_path, fail)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["runs"][-1]["status"].startswith("failed: no more memory")


def test_a_damaged_record_is_begun_anew(tmp_path, caplog):
    (tmp_path / "run.json").write_text("{half")
    assert len(run(tmp_path, halve)["runs"]) == 1
    assert "begun anew" in caplog.text


def test_only_what_is_made_of_chips_is_counted():
    assert count_chips(pd.DataFrame({"chip_id": ["a", "a", "b"]})) == 2
    assert count_chips(pd.DataFrame({"epoch": [1]})) is None
    assert count_chips({"chip_id": 3}) is None
