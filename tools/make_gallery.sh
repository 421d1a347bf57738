#!/usr/bin/env bash
# Makes the pictures of docs/gallery.md: runs every analysis tool on the sample models.
#
#   bash tools/make_gallery.sh
#
# Runs the quickstart first if needed. Trains twelve small UPerNets, the four PE deliveries with three
# seeds each, and one UPerNet with a Gaussian attention bias (with SEEDS=1, five in all). Takes about half
# an hour on 2 CPU cores. Writes pictures and numbers to work_dirs/gallery. Skips finished trainings
# when run again. The documentation has the pictures of work_dirs/gallery/pictures in docs/images/gallery.
set -euo pipefail
unset CDPATH # otherwise cd prints the folder

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
if (($#)); then
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
    [[ $1 == -h || $1 == --help ]]
    exit
fi
bash tools/quickstart.sh
export PATH=$root/.venv/bin:$PATH
source tools/misc/run_logged.sh

out=work_dirs/gallery study=work_dirs/delivery_study config=upernet_vit_mpvg_sample.py
images=data/sample/images/val
tools=tools/analysis_tools
mkdir -p "$out" "$study"
model() { echo --model "$study/$1/$config" "$(<"$study/$1/last_checkpoint")"; }
look() { # look NAME COMMAND...: logs the whole output, and shows the written files and the tables
    local name=$1
    shift
    echo "== $name"
    "$@" >"$out/$name.log" 2>&1 || { tail -n 5 "$out/$name.log" >&2; exit 1; }
    grep -E '^(wrote|\|)' "$out/$name.log"
}

echo '== training and analyzing the deliveries'
python -m benchmarks.training.deliveries --seeds "${SEEDS:-3}" --jobs 2 2>"$out/delivery_study.log"
if [[ ! -f $study/gaussian_0/.done ]]; then
    echo '== training with a Gaussian attention bias'
    run "$out/gaussian.log" python tools/train.py "configs/sample/$config" --resume \
        --work-dir "$study/gaussian_0" --cfg-options model.backbone.pe_delivery=default \
        model.backbone.gaussian_bias=head default_hooks.checkpoint.max_keep_ckpts=1
    touch "$study/gaussian_0/.done"
fi

# shellcheck disable=SC2046  # a model is three words
{
    look counterbalance python $tools/counterbalance.py "$images" --out "$out/counterbalance" \
        $(model default_0) $(model lape_0) $(model pvg_0) $(model mpvg_0) \
        --names default lape pvg mpvg
    look receptive_field python $tools/receptive_field.py "$images" --num-images 16 \
        $(model default_0) $(model gaussian_0) $(model mpvg_0) --names default gaussian mpvg \
        --sizes 96x96 96x160 --out "$out/receptive_field"
    look pe_similarity python $tools/pe_similarity.py $(model lape_0) $(model mpvg_0) \
        --names lape mpvg --out "$out/pe_similarity"
}
for task in mask_rcnn upernet; do
    look "predict_$task" python tools/predict.py "$images" "configs/sample/${task}_vit_mpvg_sample.py" \
        "$(<"work_dirs/quickstart/$task/last_checkpoint")" --out "$out/predict_$task" --score-thr 0.5
done
upernet=work_dirs/quickstart/upernet
look comparison python $tools/compare.py configs/sample/$config $upernet/iter_{200,400}.pth \
    --out "$out/comparison"
look curves python $tools/plot_logs.py $study/{default,lape,pvg,mpvg}_0 --smooth 3 \
    --out "$out/curves.png" --keys loss lr mIoU

# The pictures of the documentation, reduced in size.
python tools/misc/shrink_pictures.py "$out/pictures" \
    "$out"/counterbalance/{correlation,last_norm,embeddings_mpvg}.png \
    "$out"/receptive_field/fields{,_mpvg_96x160}.png \
    "$out"/pe_similarity/{mosaics_lape_12x12,mosaics_mpvg_18x24,distortions_mpvg}.png \
    "$out/curves.png"
python tools/misc/shrink_pictures.py "$out/pictures" --sheet prediction.png --scale 2 --colors 128 \
    "$out"/predict_mask_rcnn/pictures/0000{04,11,13,19}.jpg \
    "$out"/predict_upernet/pictures/0000{04,11,13,19}.jpg \
    "$out"/predict_upernet/masks/0000{04,11,13,19}.png
