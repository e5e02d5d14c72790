r"""Dask workers as jobs of a queue, and a run that they work for.

    uv run --with dask-jobqueue python deploy/dask_jobs.py --jobs 10 -- \
        --env biomassters --pipelines data_engineering

Run it from the project's folder, on a machine that the jobs reach, such as a login node. What
follows the lone dashes goes to "kedro run". docs/how_to/dask_cluster.md says more.
"""

import argparse
import subprocess
import sys

import dask_jobqueue
from dask_jobqueue.local import LocalCluster
from distributed import Client

QUEUES = {
    "slurm": dask_jobqueue.SLURMCluster,
    "pbs": dask_jobqueue.PBSCluster,
    "sge": dask_jobqueue.SGECluster,
    "lsf": dask_jobqueue.LSFCluster,
    "htcondor": dask_jobqueue.HTCondorCluster,
    "local": LocalCluster,  # jobs are processes of this machine: to try it without a queue
}


def main() -> int:
    """Start the jobs, wait for the first worker, run, end the jobs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--queue-system", choices=QUEUES, default="slurm")
    parser.add_argument("--queue", help="partition or queue; the system's default if not given")
    parser.add_argument("--account", help="project that the time is taken from")
    parser.add_argument("--jobs", type=int, default=4, help="jobs")
    parser.add_argument("--cores", type=int, default=8, help="processes of each job, a core each")
    parser.add_argument("--memory", default="16GB", help="memory of each job")
    parser.add_argument("--walltime", default="04:00:00", help="longest time of a job")
    parser.add_argument("--interface", help="network that jobs and scheduler share, such as ib0")
    parser.add_argument("--wait", type=int, default=3600, help="seconds for the first job to start")
    parser.add_argument("--params", default="", help="parameters of the run, as for kedro run")
    parser.add_argument("run", nargs="*", help="arguments of kedro run, after --")
    given = parser.parse_args()

    options = {
        "cores": given.cores,
        "processes": given.cores,  # one thread each: counting and masking hold the GIL
        "memory": given.memory,
        "interface": given.interface,
    }
    if given.queue_system != "local":
        options |= {"queue": given.queue, "account": given.account, "walltime": given.walltime}
    with QUEUES[given.queue_system](**{k: v for k, v in options.items() if v is not None}) as jobs:
        jobs.scale(jobs=given.jobs)
        with Client(jobs) as client:
            client.wait_for_workers(1, timeout=given.wait)
        params = f"dask.scheduler_address={jobs.scheduler_address}"
        params += f",{given.params}" if given.params else ""
        command = [sys.executable, "-m", "kedro", "run", *given.run, "--params", params]
        return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
