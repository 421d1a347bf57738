#!/usr/bin/env bash
# Starts a tool on several processes: dist_run.sh SCRIPT PROCESSES ARGUMENTS...
# dist_train.sh and dist_test.sh call this. For several nodes, set NNODES, NODE_RANK, MASTER_ADDR and
# PORT; or, for nodes that join and leave, NNODES=MIN:MAX, RDZV_ENDPOINT=HOST:PORT and RDZV_ID=JOB. With
# MAX_RESTARTS, all processes are restarted when one dies. Exits with 75 if a signal ended the run
# and it should be resumed.
set -euo pipefail
unset CDPATH # otherwise cd prints the folder
script=$1 processes=$2
shift 2

NNODES=${NNODES:-1}
MAX_RESTARTS=${MAX_RESTARTS:-0}
if [[ $NNODES == *:* && -z ${RDZV_ENDPOINT:-} ]]; then
    echo "dist_run: NNODES=$NNODES needs RDZV_ENDPOINT, the HOST:PORT at which the nodes meet" >&2
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
    rendezvous=(--standalone) # uses a free port
elif [[ -n ${RDZV_ENDPOINT:-} || $MAX_RESTARTS -gt 0 ]]; then
    # A static rendezvous keeps the addresses of dead processes, and new processes would wait for them.
    rendezvous=(--rdzv_backend=c10d --rdzv_id="${RDZV_ID:-mmpvg}"
        --rdzv_endpoint="${RDZV_ENDPOINT:-$address:${PORT:-29500}}")
else
    # All nodes must use the same port, so it cannot be any free one.
    rendezvous=(--node_rank="${NODE_RANK:-0}" --master_addr="$address" --master_port="${PORT:-29500}")
fi

# Otherwise restarted processes find the addresses of dead ones (PyTorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# torchrun always exits with 1 when a process fails, so processes write their exit code to this file
# (mmpvg/utils/preemption.py). They also read from it whether this script received a signal before they started.
MMPVG_EXIT_CODE_FILE=$(mktemp)
export MMPVG_EXIT_CODE_FILE
# Passes the signal to the processes of the run, which save and exit; torchrun would kill them after 30 seconds.
launcher=
pass_on() {
    local child children
    echo signaled >>"$MMPVG_EXIT_CODE_FILE"
    if [[ $script == train.py ]]; then
        # Only processes that handle signals; a process that does not yet will read the file.
        for child in $(sed -n 's/^pid //p' "$MMPVG_EXIT_CODE_FILE"); do
            if is_child "$child"; then kill -TERM "$child" 2>/dev/null || true; fi
        done
    else
        children=$(pgrep -P "$launcher" 2>/dev/null || cat "/proc/$launcher/task/$launcher/children" 2>/dev/null || true)
        # shellcheck disable=SC2086  # several
        kill -TERM ${children:-$launcher} 2>/dev/null || true
    fi
}
is_child() { # of the launcher; the id of a dead process may have been reused
    [[ $(ps -o ppid= -p "$1" 2>/dev/null | tr -d ' ') == "$launcher" ]] ||
        grep -qsx "PPid:[[:space:]]*$launcher" "/proc/$1/status"
}
[[ $script != train.py ]] || trap pass_on TERM USR1
trap 'rm -f "$MMPVG_EXIT_CODE_FILE"' EXIT
# All restarts belong to one run, which continues from its own checkpoints.
export MMPVG_RUN=${MMPVG_RUN:-${RDZV_ID:-$(date +%s)-$$-$RANDOM}}

# A separate process group: otherwise bash makes background processes ignore Ctrl-C.
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
    # The launcher received the signal too, before a process of the run had started.
    code=75
fi
if [[ $status == 0 ]] && ! grep -qx signaled "$MMPVG_EXIT_CODE_FILE"; then
    code=0 # processes that exited were restarted, and finished
fi
exit "${code:-$status}"
