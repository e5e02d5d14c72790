"""What is deployed: the image's files, the scripts of clusters, Airflow's grouping."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from kedro.framework.project import configure_project, pipelines

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = REPOSITORY / "Dockerfile"
# What Airflow's scheduler makes of the files in a folder.
PARSED = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
tasks = {task.task_id: sorted(task.downstream_task_ids)
         for dag in bag.dags.values() for task in dag.tasks}
print(json.dumps([bag.import_errors, tasks]))
"""


def lint(tool: str, *files: Path) -> str:
    here = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if here is None:
        pytest.skip(f"needs {tool}: uv run --group lint pytest")
    done = subprocess.run([here, *files], capture_output=True, text=True, cwd=REPOSITORY)
    return done.stdout + done.stderr


def test_the_dockerfile_is_clean():
    assert lint("hadolint", DOCKERFILE) == ""


def test_scripts_for_the_shell_are_clean():
    assert lint("shellcheck", *REPOSITORY.glob("deploy/*.sh"), REPOSITORY / ".ci/run") == ""


def context(folder: Path) -> None:
    """The files that Docker sees, as ``.dockerignore`` says: the last pattern that fits decides."""
    patterns = [
        line
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    listing = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, text=True,
    )  # fmt: skip
    for name in listing.splitlines():
        parts = Path(name).parts
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        left_out = False
        for pattern in patterns:
            plain = pattern.removeprefix("!").replace("**/", "*")
            if any(fnmatch(one, plain) and one.count("/") >= plain.count("/") for one in above):
                left_out = not pattern.startswith("!")
        if not left_out and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)


def test_the_image_is_built_from_what_docker_sees(tmp_path):
    if shutil.which("uv") is None:
        pytest.skip("needs uv, which builds the wheel")
    seen, built = tmp_path / "seen", tmp_path / "built"
    context(seen)
    assert {path.name for path in seen.iterdir()} == {
        "LICENSE", "README.md", "conf", "pyproject.toml", "src",
    }  # fmt: skip
    assert [path.name for path in (seen / "conf/local").iterdir()] == [".gitkeep"]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE):
        for source in sources.split():
            done = shutil.copytree if (seen / source).is_dir() else shutil.copy
            built.mkdir(exist_ok=True)
            done(seen / source, built / source)
    subprocess.run(["uv", "build", "--quiet", "--wheel", built], check=True)
    assert list(built.glob("dist/*.whl"))


def test_what_passes_between_airflows_tasks_is_a_file():
    configure_project("biomassters")
    pipeline = pipelines["__default__"]
    groups = {group.name: set(group.nodes) for group in pipeline.group_nodes_by("namespace")}
    assert set(groups) == {
        "simulation", "data_engineering", "training", "inference", "uncertainty", "submission",
        "reporting",
    }  # fmt: skip
    files = set()
    for catalog in REPOSITORY.glob("conf/base/catalog*.yml"):
        for name, entry in yaml.safe_load(catalog.read_text()).items():
            files |= {name} if "filepath" in entry else set()
    group_of = {node: name for name, nodes in groups.items() for node in nodes}
    maker = {out: group_of[node.name] for node in pipeline.nodes for out in node.outputs}
    passed = {
        name
        for node in pipeline.nodes
        for name in node.inputs
        if maker.get(name, group_of[node.name]) != group_of[node.name]
    }
    assert "chip_store" in passed
    assert passed <= files


@pytest.mark.slow
def test_airflow_parses_a_dag_of_namespaces(tmp_path):
    for name in ("airflow", "kedro_airflow"):
        if find_spec(name) is None:
            pytest.skip(
                f"needs {name}: uv run --with apache-airflow --with kedro-airflow "
                "pytest tests/test_deploy.py"
            )
    here = {
        **os.environ,
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }
    create = [sys.executable, "-m", "kedro", "airflow", "create", "--group-by", "namespace"]
    subprocess.run(
        [*create, "--env", "biomassters", "--target-dir", tmp_path / "dags"],
        check=True, cwd=REPOSITORY, env=here,
    )  # fmt: skip
    printed = subprocess.check_output(
        [sys.executable, "-c", PARSED, tmp_path / "dags"], text=True, cwd=REPOSITORY, env=here
    )
    errors, after = json.loads(printed.splitlines()[-1])
    assert errors == {}
    assert after == {
        "simulation": ["data-engineering"],
        "data-engineering": ["inference", "reporting", "submission", "training", "uncertainty"],
        "training": ["inference", "reporting", "submission", "uncertainty"],
        "inference": ["reporting", "submission", "uncertainty"],
        "uncertainty": ["reporting"],
        "submission": [],
        "reporting": [],
    }
