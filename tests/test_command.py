"""An installed wheel runs in an empty folder, without a clone."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if shutil.which("uv") is None:
        pytest.skip("needs uv, which builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(["uv", "build", "--quiet", "--wheel", "--out-dir", folder, PROJECT], check=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_configuration_and_nobodys_own(wheel):
    files = {path.relative_to(PROJECT).as_posix() for path in PROJECT.glob("conf/**/*.*")}
    shared = {file for file in files if not file.startswith("conf/local/")}
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    prefix = "biomassters/conf/"
    held = {f"conf/{name.removeprefix(prefix)}" for name in names if name.startswith(prefix)}
    assert held == shared | {"conf/local/.gitkeep"}


@pytest.mark.slow
def test_the_installed_command_works_in_an_empty_folder(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", installed, wheel]
    subprocess.run([*install, "--python", sys.executable], check=True)
    environment = {**os.environ, "PYTHONPATH": str(installed)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, installed / "bin/biomassters", "run", *arguments],
            cwd=empty, env=environment, capture_output=True, text=True,
        )  # fmt: skip

    hint = "from biomassters.messages import installation; print(installation('plots'))"
    told = subprocess.run([sys.executable, "-c", hint], env=environment, capture_output=True)
    assert told.stdout.decode().strip() == "\"pip install 'biomassters[plots]'\""

    refused = run("--env", "tset")
    assert refused.returncode != 0
    assert refused.stderr.count("\n") == 1
    assert f"no environment 'tset' in {installed}/biomassters/conf" in refused.stderr
    assert "did you mean 'test'" in refused.stderr

    done = run("--env", "test", "--pipelines", "simulation")
    assert done.returncode == 0, done.stderr
    assert "simulate forest" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in empty.iterdir()} == {"data"}
    assert list(empty.glob("data/01_raw/test/train_agbm/*.tif"))

    mapped = run("--env", "test", "--pipelines", "region_simulation,mapping",
                 "--params", "weights=starter,run=first")  # fmt: skip
    assert mapped.returncode == 0, mapped.stderr
    assert (empty / "data/07_model_output/first/region/agb.tif").is_file()
