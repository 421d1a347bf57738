#!/usr/bin/env bash
# Start a tool on several processes: dist_run.sh SCRIPT PROCESSES ARGUMENTS...
# dist_train.sh and dist_test.sh call this. Several nodes: set NNODES, NODE_RANK, MASTER_ADDR, PORT;
# or, for nodes that come and go, NNODES=MIN:MAX, RDZV_ENDPOINT=HOST:PORT and RDZV_ID=JOB. MAX_RESTARTS starts all
# processes again when one dies. Exits with 75 when the run ended at a signal and wants to go on.
set -euo pipefail
unset CDPATH # with it, cd prints where it went
script=$1 processes=$2
shift 2

NNODES=${NNODES:-1}
MAX_RESTARTS=${MAX_RESTARTS:-0}
if [[ $NNODES == *:* && -z ${RDZV_ENDPOINT:-} ]]; then
    echo "dist_run: NNODES=$NNODES needs RDZV_ENDPOINT, where the nodes find each other" >&2
    exit 2
elif [[ -n ${RDZV_ENDPOINT:-} && $NNODES == *:* && -z ${RDZV_ID:-}${MMPVG_RUN:-} ]]; then
    echo "dist_run: NNODES=$NNODES needs RDZV_ID, a name of this job that is the same on all nodes" >&2
    exit 2
elif [[ $NNODES != 1 && -z ${MASTER_ADDR:-}${RDZV_ENDPOINT:-} ]]; then
    echo "dist_run: NNODES=$NNODES needs MASTER_ADDR, the address of node 0" >&2
    exit 2
fi
address=${MASTER_ADDR:-127.0.0.1}
if [[ $NNODES == 1 && -z ${PORT:-}${RDZV_ENDPOINT:-} ]]; then
    rendezvous=(--standalone) # at a free port
elif [[ -n ${RDZV_ENDPOINT:-} || $MAX_RESTARTS -gt 0 ]]; then
    # A static one keeps the addresses of processes that have died, and new ones wait for them.
    rendezvous=(--rdzv_backend=c10d --rdzv_id="${RDZV_ID:-mmpvg}"
        --rdzv_endpoint="${RDZV_ENDPOINT:-$address:${PORT:-29500}}")
else
    # Nodes must agree on the port, so no free one is looked for.
    rendezvous=(--node_rank="${NODE_RANK:-0}" --master_addr="$address" --master_port="${PORT:-29500}")
fi

# Or processes that start again find the addresses of those that died (pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# torchrun exits with 1 whatever its processes exit with, so they leave their code here
# (mmpvg/utils/preemption.py), and read here that this script got a signal before they started.
MMPVG_EXIT_CODE_FILE=$(mktemp)
export MMPVG_EXIT_CODE_FILE
# To the processes of the run, which save and exit; torchrun would kill them after 30 seconds.
launcher=
pass_on() {
    local child children
    echo signaled >>"$MMPVG_EXIT_CODE_FILE"
    if [[ $script == train.py ]]; then
        # Those that take signals; one that does not yet will find the line.
        for child in $(sed -n 's/^pid //p' "$MMPVG_EXIT_CODE_FILE"); do
            if is_child "$child"; then kill -TERM "$child" 2>/dev/null || true; fi
        done
    else
        children=$(pgrep -P "$launcher" 2>/dev/null || cat "/proc/$launcher/task/$launcher/children" 2>/dev/null || true)
        # shellcheck disable=SC2086  # several
        kill -TERM ${children:-$launcher} 2>/dev/null || true
    fi
}
is_child() { # of the launcher; the number of a process that has died may be another's
    [[ $(ps -o ppid= -p "$1" 2>/dev/null | tr -d ' ') == "$launcher" ]] ||
        grep -qsx "PPid:[[:space:]]*$launcher" "/proc/$1/status"
}
[[ $script != train.py ]] || trap pass_on TERM USR1
trap 'rm -f "$MMPVG_EXIT_CODE_FILE"' EXIT
# All processes that are started again belong to one run, which goes on from its own checkpoints.
export MMPVG_RUN=${MMPVG_RUN:-${RDZV_ID:-$(date +%s)-$$-$RANDOM}}

# A process group of its own, without which bash lets what it starts in the background ignore Ctrl-C.
set -m
PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}" python -m torch.distributed.run \
    --nnodes="$NNODES" --nproc_per_node="$processes" --max_restarts="$MAX_RESTARTS" \
    "${rendezvous[@]}" "$tools/$script" "$@" --launcher pytorch &
launcher=$!

trap pass_on TERM USR1
trap 'kill -INT "$launcher" 2>/dev/null || true' INT
status=0
while true; do
    wait "$launcher" && status=0 || status=$?
    # A signal ends the wait, not the run.
    kill -0 "$launcher" 2>/dev/null || break
done
code=$(sed -n 's/^exit //p' "$MMPVG_EXIT_CODE_FILE" | tail -n 1)
if [[ $script == train.py && $status != 0 && $(<"$MMPVG_EXIT_CODE_FILE") == signaled* ]] &&
    ! grep -q '^pid' "$MMPVG_EXIT_CODE_FILE"; then
    # The launcher got the signal too, before a process of the run had started.
    code=75
fi
if [[ $status == 0 ]] && ! grep -qx signaled "$MMPVG_EXIT_CODE_FILE"; then
    code=0 # processes that ended were started again, and finished
fi
exit "${code:-$status}"
