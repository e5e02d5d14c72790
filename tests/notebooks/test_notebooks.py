"""The notebooks, executed for real on a tiny run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, optional) -> Path:
    """A project folder with everything that ``kedro run --env test`` makes."""
    for name in ("ipykernel", "nbclient", "nbformat"):
        optional(name)
    folder = tmp_path_factory.mktemp("notebooks_project")
    for name in ("conf", "notebooks"):
        shutil.copytree(REPOSITORY / name, folder / name)
    shutil.copy(REPOSITORY / ".telemetry", folder)
    settings = (REPOSITORY / "pyproject.toml").read_text()
    settings = settings.replace('source_dir = "src"', 'source_dir = "."')
    (folder / "pyproject.toml").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "kedro", "run", "--env", "test"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


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
    notebook = nbformat.read(finished / "notebooks" / path.name, as_version=4)
    place = {"metadata": {"path": str(finished / "notebooks")}}
    client = NotebookClient(notebook, timeout=900, kernel_name="python3", resources=place)
    client.execute()
    text = "".join(
        str(output.get("text", "")) for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "Error" not in text
