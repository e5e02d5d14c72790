"""Previews, as Kedro-Viz asks for them and sends them to its page."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.framework.startup import bootstrap_project
from tests.pipelines.conftest import make_project

from biomassters.datasets.previewed import (
    CURVES,
    ChipTableDataset,
    MarkdownDataset,
    TrainingEventsDataset,
)

CHIPS = pd.DataFrame(
    {
        "chip_id": ["0001", "0002"],
        "usable": [True, False],
        "s1_months": [[0, 3, 11], [0]],
        "s2_cloud_fraction": [[0.5] * 12, [np.nan] * 12],
        "agb_mean_mg_per_ha": [71.23456, np.nan],
    }
)
CARD = "# Card\n\n| a | b |\n|---|---|\n| 1 | <script>x</script> |\n"


def write_curve(folder: Path, values, first_step=1):
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step, value in enumerate(values, first_step):
            writer.add_scalar("epoch/loss", value, 10 * step)
            writer.add_scalar("step/loss", value, step)


def test_a_chip_table_shows_plain_columns_and_counts_months(tmp_path):
    dataset = ChipTableDataset(filepath=str(tmp_path / "chips.parquet"))
    dataset.save(CHIPS)
    assert dataset.load()["s1_months"].map(list).tolist() == [[0, 3, 11], [0]]
    shown = dataset.preview()
    assert shown["columns"] == ["chip_id", "usable", "s1_months", "agb_mean_mg_per_ha"]
    assert shown["data"][0] == ["0001", True, 3, 71.235]
    assert len(dataset.preview(nrows=1)["data"]) == 1


def test_a_model_card_becomes_a_page_without_tags_of_its_own(tmp_path):
    dataset = MarkdownDataset(filepath=str(tmp_path / "card.md"))
    dataset.save(CARD)
    page = dataset.preview()
    assert "<h1>Card</h1>" in page
    assert "<td>&lt;script&gt;x&lt;/script&gt;</td>" in page


def test_curves_grow_while_they_are_written(tmp_path):
    dataset = TrainingEventsDataset(filepath=str(tmp_path))
    assert dataset.preview()["data"] == []
    write_curve(tmp_path / "fit/fold_0", [30.0, 20.0])
    write_curve(tmp_path / "finetune/fold_0", [19.0])
    fine, fit = dataset.preview()["data"]
    assert (fine["name"], fit["name"]) == (
        "finetune/fold_0: training loss", "fit/fold_0: training loss",
    )  # fmt: skip
    assert (fit["x"], fit["y"]) == ([10, 20], [30.0, 20.0])
    write_curve(tmp_path / "fit/fold_0", [15.0], first_step=3)
    assert dataset.preview()["data"][1]["y"] == [30.0, 20.0, 15.0]


def test_the_curves_are_those_that_training_writes():
    from biomassters.training import monitoring

    assert CURVES.keys() <= set(monitoring.CURVES.values())


@pytest.mark.slow
def test_kedro_viz_sends_every_preview(tmp_path, monkeypatch):
    """Chip table, model card, curves and the table of scenes, by the API that its page asks."""
    from fastapi.testclient import TestClient
    from kedro_viz.api.apps import create_api_app_from_project
    from kedro_viz.server import load_and_populate_data

    monkeypatch.chdir(tmp_path)
    project = make_project(tmp_path)
    files = {
        "chip_table": project / "data/02_intermediate/test/chip_table.parquet",
        "imagery_scenes": project / "data/02_intermediate/test/imagery/cube.zarr.scenes.csv",
        "model_card": project / "data/06_models/test/model_card.md",
        "training_events": project / "data/08_reporting/test/tensorboard/fit/fold_0",
    }
    for path in files.values():
        path.parent.mkdir(parents=True)
    CHIPS.to_parquet(files["chip_table"])
    pd.DataFrame({"item": ["S2A_1"], "month": [3], "clouds": [np.nan], "use": ["used"]}).to_csv(
        files["imagery_scenes"], index=False
    )
    files["model_card"].write_text(CARD)
    write_curve(files["training_events"], [30.0, 20.0])
    bootstrap_project(project)
    load_and_populate_data(project, env="test")
    client = TestClient(create_api_app_from_project(project))
    shown = [client.get(f"/api/pipelines/{name}").json() for name in ("__default__", "imagery")]
    ids = {node["name"]: node["id"] for one in shown for node in one["nodes"]}
    found = {name: client.get(f"/api/nodes/{ids[name]}").json() for name in files}
    types = {name: one["preview_type"] for name, one in found.items()}
    assert types == {
        "chip_table": "TablePreview", "imagery_scenes": "TablePreview",
        "model_card": "HTMLPreview", "training_events": "PlotlyPreview",
    }  # fmt: skip
    assert found["chip_table"]["preview"]["data"][1] == ["0002", False, 1, None]
    assert found["imagery_scenes"]["preview"]["data"] == [["S2A_1", 3, None, "used"]]
    assert "<h1>Card</h1>" in found["model_card"]["preview"]
    assert found["training_events"]["preview"]["data"][0]["y"] == [30.0, 20.0]
    json.dumps(found)
