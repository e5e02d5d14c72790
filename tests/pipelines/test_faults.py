"""Folders that turn read-only and disks that fill up while a network is trained, for real."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from biomassters.training.checkpoint import CheckpointFolder, read_checkpoint

from .conftest import CHIPS, DefaultRun, make_project

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0 or not sys.platform.startswith("linux"),
        reason="needs root on Linux, to be somebody else and to mount a small file system",
    ),
]
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
CHECKPOINTS = Path("data/06_models/test/checkpoints/fit/fold_0")
# So many that no machine comes to the end before a test has done what it does.
LONG = "training.epochs=500,training.checkpoint_every_minutes=0.000001"


@pytest.fixture(scope="module")
def packed(default_run: DefaultRun) -> Iterator[Path]:
    """A project with a packed store, where other users can look (not so below ``tmp_path``)."""
    folder = Path(tempfile.mkdtemp(prefix="biomassters-faults-"))
    try:
        folder.chmod(0o755)
        default_run.copy_to(make_project(folder / "first"), *CHIPS)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def project(packed: Path, request: pytest.FixtureRequest) -> Path:
    """A copy for each test."""
    return Path(shutil.copytree(packed / "first", packed / request.node.name))


def started(folder: Path, *arguments: str, before: Sequence[str] = ()) -> "subprocess.Popen[str]":
    command = [*before, sys.executable, "-m", "kedro", "run", "--env", "test", *arguments]
    surroundings = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=surroundings,
    )  # fmt: skip


@pytest.fixture
def nobodys(project: Path) -> Path:
    """A project of user 65534's, or a skip where that one can't run this Python."""
    try:
        find = "import biomassters, importlib.util as u; assert u.find_spec('torch').origin"
        subprocess.run([*AS_NOBODY, sys.executable, "-c", find], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs setpriv, and a Python that other users may run")
    for path in (project, *project.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return project


def during_training(
    process: "subprocess.Popen[str]", folder: Path, fault: Callable[[], None]
) -> str:
    """What is said after a fault that is repeated from the first checkpoint on."""
    deadline = time.monotonic() + 200
    checkpoints = CheckpointFolder(folder / CHECKPOINTS, 2)
    try:
        while not checkpoints.files():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while process.poll() is None:
            fault()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        said = process.communicate()[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert sum(line.startswith("Error") for line in said.splitlines()) == 1
    newest, *_ = checkpoints.files()
    assert read_checkpoint(newest)["weights"]
    return said.splitlines()[-1]


def test_a_folder_of_somebody_elses_is_named_before_the_work(nobodys: Path) -> None:
    (nobodys / "data/06_models").mkdir(mode=0o755)  # root's
    process = started(nobodys, "--pipelines", "training", before=AS_NOBODY)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1, said
    (line,) = said.strip().splitlines()
    assert "Nothing can be written to data/06_models (Permission denied)" in line
    assert "give yourself write permission" in line
    assert not list((nobodys / "data/06_models").iterdir())


def test_a_folder_that_turns_read_only_is_named_with_the_reason(nobodys: Path) -> None:
    """The checkpoint before stays, and with the permission back the run goes on from it."""
    folder = nobodys / CHECKPOINTS

    def lock() -> None:
        folder.chmod(0o555)
        os.chown(folder, 0, 0)

    process = started(nobodys, "--pipelines", "training", "--params", LONG, before=AS_NOBODY)
    last = during_training(process, nobodys, lock)
    assert "Error: The checkpoint " in last
    assert f"{CHECKPOINTS}/checkpoint_" in last
    assert "can't be written (Permission denied)" in last
    assert "full" not in last


@pytest.fixture
def small_disk(project: Path) -> Iterator[Path]:
    """The project's checkpoints lie on a file system of their own, 64 MB."""
    place = project / CHECKPOINTS
    place.mkdir(parents=True)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)])
    if made.returncode:
        pytest.skip("needs permission to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_fills_up_is_named_with_its_bytes(project: Path, small_disk: Path) -> None:
    """Half a checkpoint is written when nothing more fits; those before stay."""

    def fill() -> None:
        with (small_disk / ".filler").open("ab", buffering=0) as file:
            try:
                file.write(bytes(shutil.disk_usage(small_disk).free))
            except OSError:
                return

    process = started(project, "--pipelines", "training", "--params", LONG)
    last = during_training(process, project, fill)
    assert "Error: The checkpoint " in last
    assert f"{CHECKPOINTS}/checkpoint_" in last
    assert "No space left on device" in last
    assert " free)" in last
    assert not list(small_disk.glob("*.tmp"))
