#!/usr/bin/env bash
# Trains on a Slurm cluster.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: [GPUS= GPUS_PER_NODE= CPUS_PER_TASK= SRUN_ARGS= REQUEUE=1] $0 PARTITION JOB_NAME CONFIG WORK_DIR [train.py arguments]" >&2
    exit 2
fi
# A requeued job must resume.
resume=()
if [[ ${REQUEUE:-0} == 1 && " ${*:5} " != *" --resume"[\ =]* ]]; then
    resume=(--resume)
fi
exec bash "$(dirname "$0")/slurm_run.sh" "$1" "$2" train.py "$3" --work-dir "$4" "${@:5}" ${resume[@]+"${resume[@]}"}
