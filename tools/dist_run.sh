#!/usr/bin/env bash
# Start a tool on several processes: dist_run.sh SCRIPT PROCESSES ARGUMENTS...
# dist_train.sh and dist_test.sh call this. Several nodes: set NNODES, NODE_RANK, MASTER_ADDR, PORT.
set -euo pipefail
script=$1 processes=$2
shift 2

NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
if [ "$NNODES" -gt 1 ] && [ -z "${MASTER_ADDR:-}" ]; then
    echo "dist_run: NNODES=$NNODES needs MASTER_ADDR, the address of node 0" >&2
    exit 2
fi
MASTER_ADDR=${MASTER_ADDR:-127.0.0.1}
if [ -z "${PORT:-}" ]; then
    if [ "$NNODES" -gt 1 ]; then
        PORT=29500 # nodes must agree, so no free one is looked for
    else
        PORT=$(python -c "import socket
with socket.socket() as s:
    s.bind(('', 0))
    print(s.getsockname()[1])")
    fi
fi

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" exec python -m torch.distributed.run \
    --nnodes="$NNODES" --node_rank="$NODE_RANK" --nproc_per_node="$processes" \
    --master_addr="$MASTER_ADDR" --master_port="$PORT" \
    "$tools/$script" "$@" --launcher pytorch
