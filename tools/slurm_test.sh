#!/usr/bin/env bash
# Tests on a Slurm cluster.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: [GPUS= GPUS_PER_NODE= CPUS_PER_TASK= SRUN_ARGS=] $0 PARTITION JOB_NAME CONFIG CHECKPOINT [test.py arguments]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/slurm_run.sh" "$1" "$2" test.py "${@:3}"
