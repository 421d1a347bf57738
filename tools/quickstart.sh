#!/usr/bin/env bash
# From nothing to a trained and evaluated MPVG detector and segmenter, and pictures of what they
# predict:
#
#   bash tools/quickstart.sh
#
# Makes .venv (the current stack), the sample data set in data/sample, and all else in
# work_dirs/quickstart. Run again, it skips what is done. --force trains again.
set -euo pipefail
unset CDPATH # with it, cd prints where it went

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
        echo '      done before'
        continue
    fi
    mkdir -p "$dir"
    begin=$SECONDS
    echo '   -- the untrained model, tested'
    run "$dir/untrained.log" python tools/test.py "$config" none --work-dir "$dir/untrained"
    echo '   -- training'
    run "$dir/train.log" python tools/train.py "$config" --work-dir "$dir" --resume
    echo '   -- the trained model, tested'
    last=$(<"$dir/last_checkpoint")
    run "$dir/trained.log" python tools/test.py "$config" "$last" --work-dir "$dir/trained"
    python tools/draw_predictions.py "$config" "$last" "$out/$task.png" >"$dir/draw.log" 2>&1 ||
        { tail -n 5 "$dir/draw.log" >&2; exit 1; }
    echo $((SECONDS - begin)) >"$dir/.done"
done

echo
python tools/misc/quickstart_table.py "$out"
echo "finished after $(elapsed $((SECONDS - started)))"
