"""deploy/slurm_training.sh, with stand-ins for SLURM that run both machines' tasks on this one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pipelines.conftest import CHIPS

SCRIPT = Path(__file__).parents[2] / "deploy/slurm_training.sh"
SRUN = """#!/usr/bin/env bash
tasks=() status=0
for ((task = 0; task < SLURM_JOB_NUM_NODES; task++)); do
    "$@" >"task$task.log" 2>&1 &
    tasks+=($!)
done
for task in "${tasks[@]}"; do wait "$task" || status=$?; done
exit "$status"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1" = show ] && echo 127.0.0.1 || echo "$@" >>scontrol.log
"""


@pytest.fixture
def submit(project, tmp_path):
    """Runs the script as SLURM would: ``submit(nodes, kedro, *arguments)``."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(nodes: int, kedro: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "KEDRO": kedro,
            "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": str(os.getpid()), "RANKS_PER_NODE": "1",
            "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_JOB_NODELIST": "node[1-2]",
        }  # fmt: skip
        return subprocess.run(
            ["bash", SCRIPT, *arguments],
            cwd=project, env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("nodes", [1, 2])
def test_every_machine_gets_one_task_and_the_same_command(submit, project, nodes):
    assert submit(nodes, "echo", "--env", "test").returncode == 0
    said = {(project / f"task{task}.log").read_text() for task in range(nodes)}
    port = 20000 + os.getpid() % 20000
    several = f",training.launch.nodes=2,training.launch.rendezvous_address=127.0.0.1:{port}"
    params = f"training.world_size={nodes}{several if nodes == 2 else ''}"
    assert said == {f"run --pipelines training --env test --params {params}\n"}


def test_a_job_whose_time_is_up_goes_back_into_the_queue(submit, project, tmp_path):
    stopped = tmp_path / "kedro"
    stopped.write_text("#!/usr/bin/env bash\nexit 130\n")
    stopped.chmod(0o755)
    assert submit(1, str(stopped)).returncode == 130
    assert (project / "scontrol.log").read_text() == f"requeue {os.getpid()}\n"


@pytest.mark.slow
def test_two_machines_train_together(submit, project, default_run):
    default_run.copy_to(project, *CHIPS)
    command = Path(sys.executable).with_name("kedro")
    done = submit(2, str(command), "--env", "test")
    logs = [(project / f"task{task}.log").read_text() for task in range(2)]
    assert done.returncode == 0, logs
    assert sum("the first one goes on with the result" in log for log in logs) == 1
    assert (project / "data/06_models/test/weights.safetensors").is_file()
