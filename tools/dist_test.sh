#!/usr/bin/env bash
# Tests on several GPUs, or on several CPU processes if there is no GPU.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: [NNODES= NODE_RANK= MASTER_ADDR= PORT=] $0 CONFIG CHECKPOINT GPUS_PER_NODE [test.py arguments]" >&2
    exit 2
fi
exec bash "$(dirname "$0")/dist_run.sh" test.py "$3" "$1" "$2" "${@:4}"
