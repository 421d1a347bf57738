# Sourced by scripts that start several runs: `run LOG COMMAND...` keeps the whole log and shows
# progress and results alone, and ends the script with the log's last lines if the command fails.

# OpenMMLab logs hundreds of lines at the start of a run: show progress and results, log the rest.
progress() {
    grep --line-buffered -E '(Epoch|Iter)\((train|val|test)\)|^Traceback|Error' |
        sed -uE 's/.* - (Epoch|Iter)\(/      \1(/
            s/ +(base_lr|lr|data_time|time|grad_norm|coco\/[a-z]+_mAP_(75|s|m|l)): [^ ]+//g
            s/( loss: [0-9.]+).*/\1/; s/ +$//'
}
run() { # run LOG COMMAND...
    local log=$1 status
    shift
    set +e # progress may find nothing to show; only the command's own failure counts
    "$@" 2>&1 | tee "$log" | progress
    status=${PIPESTATUS[0]}
    set -e
    ((status == 0)) && return
    tail -n 5 "$log" >&2
    echo "$(basename "$0"): '$*' failed, its log is $log; running it again continues here" >&2
    exit 1
}
