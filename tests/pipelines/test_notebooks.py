"""The notebooks, executed for real on a tiny run."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.pipelines.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def finished(project, default_run, optional) -> Path:
    """A project folder with everything that ``kedro run --env test`` makes, and the notebooks."""
    for name in ("ipykernel", "nbclient", "nbformat"):
        optional(name)
    default_run.copy_to(project)
    return Path(shutil.copytree(REPOSITORY / "notebooks", project / "notebooks"))


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_the_data",
        "02_a_trained_model",
        "03_compare_runs",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path):
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(finished, path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("KEDRO_ENV", "test")
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook = nbformat.read(finished / path.name, as_version=4)
    place = {"metadata": {"path": str(finished)}}
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place)
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "Error" not in "".join(str(output.get("text", "")) for output in outputs)
    assert not [output["text"] for output in outputs if output.get("name") == "stderr"]  # no log
    values = "".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    assert not re.search(r"\d\.\d{9}", values), "nobody reads sixteen digits"
