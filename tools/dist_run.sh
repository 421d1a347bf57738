#!/usr/bin/env bash
# Start a tool on several processes: dist_run.sh SCRIPT PROCESSES ARGUMENTS...
# dist_train.sh and dist_test.sh call this. Several nodes: set NNODES, NODE_RANK, MASTER_ADDR, PORT;
# or, for nodes that come and go, NNODES=MIN:MAX and RDZV_ENDPOINT=HOST:PORT. MAX_RESTARTS starts all
# processes again when one dies. Exits with 75 when the run was told to end and wants to go on.
set -euo pipefail
script=$1 processes=$2
shift 2

NNODES=${NNODES:-1}
NODE_RANK=${NODE_RANK:-0}
if [[ -n ${RDZV_ENDPOINT:-} ]]; then
    rendezvous=(--rdzv_backend=c10d --rdzv_endpoint="$RDZV_ENDPOINT" --rdzv_id="${RDZV_ID:-mmpvg}")
elif [[ $NNODES == *:* ]]; then
    echo "dist_run: NNODES=$NNODES needs RDZV_ENDPOINT, where the nodes find each other" >&2
    exit 2
else
    if [[ $NNODES -gt 1 && -z ${MASTER_ADDR:-} ]]; then
        echo "dist_run: NNODES=$NNODES needs MASTER_ADDR, the address of node 0" >&2
        exit 2
    fi
    if [[ -z ${PORT:-} ]]; then
        if [[ $NNODES -gt 1 ]]; then
            PORT=29500 # nodes must agree, so no free one is looked for
        else
            PORT=$(python -c "import socket
with socket.socket() as s:
    s.bind(('', 0))
    print(s.getsockname()[1])")
        fi
    fi
    rendezvous=(--node_rank="$NODE_RANK" --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$PORT")
fi

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# torchrun exits with 1 whatever its processes exit with, so they leave their code here.
MMPVG_EXIT_CODE_FILE=$(mktemp)
export MMPVG_EXIT_CODE_FILE
trap 'rm -f "$MMPVG_EXIT_CODE_FILE"' EXIT
# A process group of its own, without which bash lets what it starts in the background ignore Ctrl-C.
set -m
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" python -m torch.distributed.run \
    --nnodes="$NNODES" --nproc_per_node="$processes" --max_restarts="${MAX_RESTARTS:-0}" \
    "${rendezvous[@]}" "$tools/$script" "$@" --launcher pytorch &
launcher=$!

# To the processes of the run, which save and exit; torchrun would kill them after 30 seconds.
pass_on() {
    local children
    children=$(cat "/proc/$launcher/task/$launcher/children" 2>/dev/null || pgrep -P "$launcher" || true)
    # shellcheck disable=SC2086
    kill -TERM ${children:-$launcher} 2>/dev/null || true
}
trap pass_on TERM USR1
trap 'kill -INT "$launcher" 2>/dev/null || true' INT
status=0
while true; do
    wait "$launcher" && status=0 || status=$?
    # A signal ends the wait, not the run.
    kill -0 "$launcher" 2>/dev/null || break
done
exit "$(cat "$MMPVG_EXIT_CODE_FILE" | grep . || echo "$status")"
