#!/usr/bin/env bash
# Trains and evaluates an MPVG segmenter and detector on sample data, and draws their predictions:
#
#   bash tools/quickstart.sh [--force]
#
# Creates .venv (the current stack), the sample data set in data/sample, and all other output in
# work_dirs/quickstart. Skips finished steps when run again; --force trains again.
set -euo pipefail
unset CDPATH # otherwise cd prints the folder

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
case ${1:-} in
    '') ;;
    --force) rm -rf work_dirs/quickstart ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; [[ $1 == -h || $1 == --help ]]; exit ;;
esac
out=work_dirs/quickstart
started=$SECONDS
elapsed() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

echo '== 1/4 environment'
bash tools/setup_env.sh
export PATH=$root/.venv/bin:$PATH

echo '== 2/4 sample data'
python tools/make_sample_dataset.py

mkdir -p "$out"
source tools/misc/run_logged.sh

number=2
for task in upernet mask_rcnn; do
    number=$((number + 1))
    config=configs/sample/${task}_vit_mpvg_sample.py
    dir=$out/$task
    echo "== $number/4 $task"
    if [[ -f $dir/.done ]]; then
        echo '      already done'
        continue
    fi
    mkdir -p "$dir"
    begin=$SECONDS
    echo '   -- testing the untrained model'
    run "$dir/untrained.log" python tools/test.py "$config" none --work-dir "$dir/untrained"
    echo '   -- training'
    run "$dir/train.log" python tools/train.py "$config" --work-dir "$dir" --resume
    echo '   -- testing the trained model'
    last=$(<"$dir/last_checkpoint")
    run "$dir/trained.log" python tools/test.py "$config" "$last" --work-dir "$dir/trained"
    python tools/draw_predictions.py "$config" "$last" "$out/$task.png" >"$dir/draw.log" 2>&1 ||
        { tail -n 5 "$dir/draw.log" >&2; exit 1; }
    echo $((SECONDS - begin)) >"$dir/.done"
done

echo
python tools/misc/quickstart_table.py "$out"
echo "finished after $(elapsed $((SECONDS - started)))"
