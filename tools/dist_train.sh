#!/usr/bin/env bash
# Trains on several GPUs, or on several CPU processes if there is no GPU.
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: [NNODES= NODE_RANK= MASTER_ADDR= PORT= MAX_RESTARTS=] $0 CONFIG GPUS_PER_NODE [train.py arguments]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/dist_run.sh" train.py "$2" "$1" "${@:3}"
