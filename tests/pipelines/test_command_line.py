"""What a newcomer meets: names, help, misspelt parameters, wrong paths."""

import shutil
import subprocess
import sys

import pytest

PIPELINES = {
    "__default__", "data_engineering", "from_archive", "inference", "mapping", "prediction",
    "region_simulation", "reporting", "simulation", "submission", "training",
}  # fmt: skip


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return result.stderr.strip().splitlines()[-1]


def test_every_pipeline_is_registered(kedro):
    result = kedro("registry", "list")
    assert {line.removeprefix("- ").strip("'") for line in result.stdout.split("\n")} >= PIPELINES


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ("training.epoch=3", "no parameter 'training.epoch'; did you mean 'training.epochs'?"),
        ("raw_rot=x", "no parameter 'raw_rot'; did you mean 'raw_root'?"),
        ("data_engineering.folds.count=1", "data_engineering.folds.count: Input should be"),
        ("raw_root=nowhere", "nowhere is not a folder"),
    ],
)
def test_a_wrong_parameter_gets_one_sentence(kedro, parameters, sentence):
    result = kedro("run", "--env", "test", "--pipelines", "data_engineering",
                   "--params", parameters)  # fmt: skip
    assert result.returncode == 1
    assert last_line(result).startswith("Error: ")
    assert sentence in last_line(result)
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1


def test_a_misspelt_parameter_in_a_file_is_refused(kedro, project):
    file = project / "conf/test/parameters_more.yml"
    file.write_text("training:\n  epocs: 3\n")
    try:
        result = kedro("run", "--env", "test", "--pipelines", "data_engineering")
    finally:
        file.unlink()
    assert "did you mean 'training.epochs'?" in last_line(result)


def test_the_simulation_never_writes_where_a_real_archive_belongs(kedro, project):
    result = kedro("run", "--env", "biomassters", "--pipelines", "simulation")
    assert "from_archive" in last_line(result)
    assert not (project / "data/01_raw/biomassters").exists()


def test_a_renamed_metadata_file_gives_the_same_chip_table(kedro, project, sample_root, tmp_path):
    renamed = tmp_path / "mirror"
    shutil.copytree(sample_root, renamed)
    (renamed / "features_metadata.csv").rename(renamed / "features_metadata_FzP19JI.csv")
    tables = []
    for root in (sample_root, renamed):
        result = kedro("run", "--env", "biomassters", "--pipelines", "data_engineering",
                       "--params", f"raw_root={root}")  # fmt: skip
        assert result.returncode == 0, result.stderr
        tables.append(
            (project / "data/02_intermediate/biomassters/chip_table.parquet").read_bytes()
        )
    assert tables[0] == tables[1]


def test_light_pipelines_never_import_torch(project):
    code = (
        "import sys; from kedro.framework.startup import bootstrap_project;"
        "from kedro.framework.session import KedroSession;"
        "bootstrap_project('.');"
        "session = KedroSession.create(env='test');"
        "session.run(pipeline_names=['simulation', 'data_engineering']);"
        "assert 'torch' not in sys.modules and 'timm' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, timeout=900
    )
    assert result.returncode == 0, result.stdout + result.stderr
