"""Misspelt names, wrong folders and full disks, through the real command line."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from .conftest import CHIPS, make_project, run_kedro

pytestmark = pytest.mark.slow


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    """What was printed, which must be one line."""
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--pipelines", "trainng"), "There is no pipeline 'trainng'; did you mean 'training'?"),
        (("--env", "tset"), "did you mean 'test'?"),
        (("--from-nodes", "pack_chps"), "did you mean 'data_engineering.pack_chips'?"),
        (("--from-nodes", "pack_chips"), "did you mean 'data_engineering.pack_chips'?"),
        (("--pipelines", "training", "--nodes", "pack_chips"), "but data_engineering has"),
        (("--tags", "training"), "There is no tag 'training'"),
        (("--to-outputs", "chip_stor"), "no output dataset 'chip_stor'; did you mean 'chip_store'"),
        (("--namespaces", "trainin"), "There is no namespace 'trainin'; did you mean 'training'?"),
        (("--runner", "SequentalRunner"), "did you mean 'SequentialRunner'?"),
        (("--params", "training.folds=[0,1"), "is never closed with ]"),
    ],
)
def test_a_misspelt_name_gets_one_sentence(kedro, arguments, sentence):
    result = kedro("run", *arguments)
    assert result.returncode == 1
    assert sentence in only_line(result)


def test_the_installed_package_says_the_same(project):
    result = subprocess.run(
        [sys.executable, "-m", "biomassters", "--pipelines", "trainng"],
        cwd=project, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 1
    assert "did you mean 'training'?" in only_line(result)


@pytest.mark.parametrize("command", ["run", "compare"])
def test_outside_the_folder_it_says_where_to_go(tmp_path, command):
    result = subprocess.run(
        [sys.executable, "-m", "kedro", command],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 2
    assert f"'kedro {command}' works in a project's folder only" in only_line_of(result.stderr)


def only_line_of(text: str) -> str:
    (line,) = text.strip().splitlines()
    return line


@pytest.mark.parametrize("given", ["training.folds=7/8", "training.folds=[7,8]"])
def test_lists_reach_the_options(kedro, given):
    result = kedro("run", "--env", "test", "--params", given)
    assert result.returncode == 1
    assert "training.folds names folds 7 and 8" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 3 MB."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("needs root on Linux to mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)])
    if made.returncode:
        pytest.skip("needs permission to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_one_sentence_and_the_next_run_goes_on(
    tmp_path, small_disk, forks, default_run
):
    folder = make_project(tmp_path / "p")
    default_run.copy_to(folder, *CHIPS)
    run = partial(run_kedro, forks, folder, "run", "--env", "test")
    # Kedro itself writes the one, a journal of ours is the other.
    for layer, file in (("04_feature", "band_scaling.json"), ("02_intermediate", "verification")):
        (folder / "data" / layer).rename(folder / layer)
        (folder / "data" / layer).symlink_to(small_disk)
        node = "choose_scaling" if layer == "04_feature" else "verify_files"
        node = f"data_engineering.{node}"
        if layer == "04_feature":
            (small_disk / "test").mkdir()
        else:
            shutil.rmtree(small_disk / "test")
        filler = small_disk / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        full = run("--nodes", node)
        assert full.returncode == 1, full.stderr
        assert "Traceback" not in full.stderr + full.stdout
        last = full.stderr.strip().splitlines()[-1]
        assert last.startswith("Error: The disk is full")
        assert file in last
        assert "0 B free" in last
        filler.unlink()
        again = run("--nodes", node)
        assert again.returncode == 0, again.stderr
