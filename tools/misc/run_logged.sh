# For scripts that start several runs. `run LOG COMMAND...` writes the whole output to LOG and shows only
# progress and results. If the command fails, it prints the last lines of LOG and ends the script.

# OpenMMLab logs hundreds of lines at the start of a run: show only progress and results.
progress() {
    grep --line-buffered -E '(Epoch|Iter)\((train|val|test)\)|^Traceback|Error' |
        sed -uE 's/.* - (Epoch|Iter)\(/      \1(/
            s/ +(base_lr|lr|data_time|time|grad_norm|coco\/[a-z]+_mAP_(75|s|m|l)): [^ ]+//g
            s/( loss: [0-9.]+).*/\1/; s/ +$//'
}
run() { # run LOG COMMAND...
    local log=$1 status
    shift
    set +e # grep fails if there is nothing to show; only a failure of the command counts
    "$@" 2>&1 | tee "$log" | progress
    status=${PIPESTATUS[0]}
    set -e
    ((status == 0)) && return
    tail -n 5 "$log" >&2
    echo "$(basename "$0"): '$*' failed, see $log; run it again to continue here" >&2
    exit 1
}
