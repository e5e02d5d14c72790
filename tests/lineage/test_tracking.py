import math
import subprocess
import sys

import pandas as pd
import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from biomassters.errors import BadInputError
from biomassters.lineage import tracking
from biomassters.lineage.tracking import MlflowTracking, loggable_metrics, loggable_parameters


class Context:
    def __init__(self, path, **options):
        self.project_path = path
        parameters = {"tracking": options, "training": {"epochs": 3, "flip": [1, 2]}}
        self.config_loader = {"parameters": parameters}


def test_nested_parameters_become_dotted_names():
    assert loggable_parameters({"a": {"b": {"c": 1}}, "d": [1, 2]}) == {"a.b.c": "1", "d": "1, 2"}


def test_only_finite_numbers_are_metrics():
    metrics = {"rmse": 3, "note": "x", "r2": None, "nan": math.nan, "by": {">200": 0.5}, "ok": True}
    assert loggable_metrics(metrics) == {"rmse": 3.0, "by.above_200": 0.5}


def test_off_nothing_is_imported():
    code = (
        "import sys, biomassters.settings as s\n"
        "from biomassters.lineage.tracking import MlflowTracking\n"
        "hook = MlflowTracking(); hook.before_pipeline_run({})\n"
        "hook.after_dataset_saved('metrics', {'a': 1.0})\n"
        "assert not {'mlflow', 'matplotlib', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_mlflow_the_run_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(BadInputError, match="uv sync --extra tracking"):
        MlflowTracking().after_context_created(Context(tmp_path, mlflow=True))


def test_a_misspelt_option_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="there is no such option"):
        MlflowTracking().after_context_created(Context(tmp_path, mlflw=True))


@pytest.mark.slow
def test_a_run_is_found_again_in_a_local_store(tmp_path, monkeypatch, capsys, optional):
    mlflow = optional("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it, and so it is unset again
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    place = tmp_path / "report.json"
    catalog = DataCatalog({"report": JSONDataset(filepath=str(place))})
    catalog.save("report", {"x": 1})
    hook = MlflowTracking()
    hook.after_context_created(Context(tmp_path, mlflow=True))
    hook.before_pipeline_run({"env": "test"})
    history = pd.DataFrame({"epoch": [1, 2], "train_loss": [9.0, 7.0], "rmse": [math.nan, 5.0]})
    hook.after_dataset_saved("training_history", history)
    hook.after_dataset_saved("metrics", {"rmse_per_chip_mean": 4.5, "r2_note": ""})
    hook.after_pipeline_run(Pipeline([Node(lambda: {}, None, "report", name="n")]), catalog)
    assert "INFO" not in capsys.readouterr().err  # MLflow's own lines on its tables
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/data/08_reporting/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'biomassters'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "3"
    assert run.data.metrics["rmse_per_chip_mean"] == 4.5
    losses = client.get_metric_history(run.info.run_id, "epoch.train_loss")
    assert [(point.step, point.value) for point in losses] == [(1, 9.0), (2, 7.0)]
    assert (tmp_path / "data/08_reporting/mlflow_artefacts").is_dir()
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["report.json"]
