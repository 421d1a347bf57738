#!/usr/bin/env bash
# Start a tool on a slurm cluster: slurm_run.sh PARTITION JOB_NAME SCRIPT ARGUMENTS...
# slurm_train.sh and slurm_test.sh call this. Environment: GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS.
set -euo pipefail
partition=$1 job=$2 script=$3
shift 3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
read -r -a srun_args <<<"${SRUN_ARGS:-}"

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec srun -p "$partition" --job-name="$job" \
    --gres=gpu:"$GPUS_PER_NODE" --ntasks="$GPUS" --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="$CPUS_PER_TASK" --kill-on-bad-exit=1 ${srun_args[@]+"${srun_args[@]}"} \
    python -u "$tools/$script" "$@" --launcher slurm
