#!/usr/bin/env bash
# Training on the GPUs of one or more machines: from the project's folder, which all of them see,
#     sbatch deploy/slurm_training.sh --env biomassters
# What follows the file's name goes to "kedro run". docs/how_to/slurm.md says more.
#SBATCH --job-name=biomassters
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

# One task a machine starts the ranks of that machine, one a GPU.
ranks=${RANKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
params="training.world_size=$((SLURM_JOB_NUM_NODES * ranks))"
if ((SLURM_JOB_NUM_NODES > 1)); then
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    port=$((20000 + SLURM_JOB_ID % 20000)) # another for every job
    params+=",training.launch.nodes=$SLURM_JOB_NUM_NODES"
    params+=",training.launch.rendezvous_address=$first:$port"
fi

# Not by way of "uv run", so that SLURM's signal reaches the run itself.
status=0
srun "${KEDRO:-.venv/bin/kedro}" run --pipelines training "$@" --params "$params${PARAMS:+,$PARAMS}" ||
    status=$?
# SIGTERM came before the time was up, and the state is saved: queue the same job again.
if ((status == 130)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
