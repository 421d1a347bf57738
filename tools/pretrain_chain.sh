#!/usr/bin/env bash
# Trains a classifier, a detector and a segmenter on sample data; each starts from the one before:
#
#   bash tools/pretrain_chain.sh
#
# The classifier is trained on digits, the detector starts from its backbone, and the segmenter from
# that of the detector. Prints what each stage loaded and reached. The runs are short: they show that
# backbones can be passed on, not how much this helps. Output is in work_dirs/pretrain_chain. Needs the
# environment of tools/setup_env.sh. Skips finished stages when run again; --force trains all again.
set -euo pipefail
unset CDPATH # otherwise cd prints the folder

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
out=work_dirs/pretrain_chain
case ${1:-} in
    '') ;;
    --force) rm -rf "$out" ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; [[ $1 == -h || $1 == --help ]]; exit ;;
esac
[[ ! -d .venv ]] || export PATH=$root/.venv/bin:$PATH
source tools/misc/run_logged.sh
mkdir -p "$out"

stage() { # stage NAME CONFIG BACKBONE-CHECKPOINT-OR-none ARGUMENTS-OF-train.py...
    local name=$1 config=$2 from=$3
    shift 3
    echo "== $name"
    if [[ ! -f $out/$name/.done ]]; then
        [[ $from == none ]] || set -- --backbone "$from" "$@"
        run "$out/$name.log" python tools/train.py "$config" --work-dir "$out/$name" --resume "$@"
        touch "$out/$name/.done"
    fi
    # Print the report of loaded tensors, up to the next time stamp of the log.
    awk '/^[0-9][0-9]\// {shown = 0}
         sub(/.*mmpvg.PretrainedViT: /, "") {shown = 1}
         shown && (/^  / || /read as/) {print "      " $0}' "$out/$name.log"
    grep -E '(Epoch|Iter)\(val\)' "$out/$name.log" | tail -n 1 | sed -E 's/.*\] +/      reached: /; s/ +(data_time.*|[a-z]+\/[a-z]+_mAP(_75|_s|_m|_l)?: [^ ]+)//g'
}
last() { cat "$out/$1/last_checkpoint"; }

python tools/make_digits_dataset.py
python tools/make_sample_dataset.py | sed -n 1p
stage classifier configs/sample/classifier_vit_mpvg_sample.py none --cfg-options default_hooks.logger.interval=20
stage detector configs/sample/mask_rcnn_vit_mpvg_sample.py "$(last classifier)" \
    --cfg-options train_cfg.max_epochs=4 param_scheduler.1.end=4 param_scheduler.1.T_max=4
stage segmenter configs/sample/upernet_vit_mpvg_sample.py "$(last detector)"
