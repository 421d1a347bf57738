#!/usr/bin/env bash
# Makes a virtual environment with one of the two stacks and mmpvg (editable) in it.
#
#   bash tools/setup_env.sh [--stack current|legacy] [--venv FOLDER]
#
# Steps already done are skipped, so after a failure run it again; once all is done it returns at
# once. Environment: PYTHON (interpreter to use), MAX_JOBS (parallel compilers), CFLAGS, FORCE_CUDA=1
# (CUDA operators although no GPU is visible), CUDA_VISIBLE_DEVICES= (none although one is), and
# pip's own variables, e.g. PIP_FIND_LINKS for a folder of ready wheels.
set -euo pipefail
unset CDPATH # with it, cd prints where it went

say() { printf '%s\n' "$*"; }
fail() { printf 'setup_env: %s\n' "$*" >&2; exit 1; }
elapsed() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stack=current
venv=
while (($#)); do
    case $1 in
        --stack) stack=${2:-}; shift ;;
        --venv) venv=${2:-}; shift; [[ -n $venv ]] || fail '--venv needs a folder' ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit ;;
        *) fail "unknown argument '$1', see --help" ;;
    esac
    shift || fail "'--stack' needs a value, see --help"
done
# torch 2.1.2 has no release for Python 3.12.
case $stack in
    current) newest=12; venv=${venv:-$root/.venv} ;;
    legacy) newest=11; venv=${venv:-$root/.venv-legacy} ;;
    *) fail "unknown stack '$stack', expected 'current' or 'legacy'" ;;
esac
[[ $venv == /* ]] || venv=$PWD/$venv
pins=$root/requirements/$stack.txt
state=$venv/.setup
python=$venv/bin/python

# A step is done when its stamp holds this key: the inputs' checksum, and where the clone lies, since
# the editable install points there.
inputs=("$pins" "$root"/requirements/{build,runtime,optional,tests}.txt
    "$root"/{setup.py,pyproject.toml,mmpvg/version.py})
key="$root $(cat "${inputs[@]}" | cksum)"
done_before() { [[ -x $python && -f $state/$1 && $(<"$state/$1") == "$key" ]]; }
done_before all && exit 0

# --- Before anything is downloaded: Python, disk, compiler -----------------------------------------

describe() { "$1" -c 'import sys; print(*sys.version_info[:3], sep=".")' 2>/dev/null || say none; }
fits() {
    "$1" -c "import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))" \
        2>/dev/null
}
wanted="the $stack stack needs Python 3.10 to 3.$newest with its venv module"
if [[ -x $python ]]; then
    fits "$python" || fail "$venv holds Python $(describe "$python"), but $wanted: remove that folder."
    base=$python
elif [[ -n ${PYTHON:-} ]]; then
    fits "$PYTHON" || fail "PYTHON=$PYTHON is version $(describe "$PYTHON"), but $wanted."
    base=$PYTHON
else
    base=
    for candidate in python3 python3.11 python3.12 python3.10; do
        if fits "$candidate"; then base=$candidate; break; fi
    done
    [[ -n $base ]] || fail "$wanted, and none is in PATH (python3 is version $(describe python3))." \
        'Install one (Debian, Ubuntu: apt install python3.11 python3.11-venv python3.11-dev), or set PYTHON.'
fi

mkdir -p "$(dirname "$venv")"
free_gb=$(($(df -Pk "$(dirname "$venv")" | awk 'NR == 2 {print $4}') / 1024 / 1024))
if ! done_before torch && ((free_gb < 8)); then
    fail "only $free_gb GB are free at $(dirname "$venv"), an environment needs 8: free some, or pass --venv."
fi

say "Making the $stack stack in $venv with Python $(describe "$base")"
started=$SECONDS
[[ -x $python ]] || "$base" -m venv "$venv"
mkdir -p "$state"
rm -f "$state/all"
pip=("$python" -m pip --disable-pip-version-check)
install=("${pip[@]}" install -c "$pins")
mmcv=$(grep -oE '^(onedl-)?mmcv==.*' "$pins")

# Prints, while a step runs, how long it has taken and what the log says last.
heartbeat() {
    local log=$1 start=$SECONDS line
    while sleep 20 >/dev/null 2>&1; do
        # A compile shows ninja's [done/all], anything else its last line.
        line=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1) || line=$(tail -n 1 "$log")
        printf '      %s  %.90s\n' "$(elapsed $((SECONDS - start)))" "${line#"${line%%[! ]*}"}"
    done
}
beat=
trap '[[ -z $beat ]] || kill "$beat" 2>/dev/null || true' EXIT
# pip and ninja end in order when interrupted, so bash would go on with the next command.
trap 'exit 130' INT
trap 'exit 143' TERM

number=0
step() { # step NAME 'WHAT IT DOES' COMMAND...
    local name=$1 what=$2 status=0 start=$SECONDS log=$state/$1.log
    shift 2
    number=$((number + 1))
    if done_before "$name"; then
        say "[$number/6] $what: done before"
        return
    fi
    say "[$number/6] $what"
    : >"$log"
    heartbeat "$log" &
    beat=$!
    # The command stays in the foreground, so that Ctrl-C reaches it and its compilers.
    "$@" >"$log" 2>&1 </dev/null || status=$?
    kill "$beat" 2>/dev/null || true
    wait "$beat" 2>/dev/null || true
    beat=
    if ((status)); then
        tail -n 5 "$log" | sed 's/^/      | /' >&2
        fail "step $number ($what) failed, its log is $log; running the same command again continues here."
    fi
    printf '%s' "$key" >"$state/$name"
    say "      done in $(elapsed $((SECONDS - start)))"
}

# --- The steps ------------------------------------------------------------------------------------

mmcv_works() {
    "$python" - <<'PY'
import os, sys
import torch
from mmcv.ops import get_compiling_cuda_version
wants_cuda = torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'
if wants_cuda and get_compiling_cuda_version() == 'not available':
    sys.exit('mmcv has CPU operators only, but this machine wants CUDA ones')
PY
}

# Prints what a compile lacks, nothing if it can start.
compiler_lack() {
    local headers
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    if ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
        say 'mmcv has to be compiled and there is no C++ compiler (g++ or clang++) in PATH:' \
            'install one (Debian, Ubuntu: apt install g++), or point PIP_FIND_LINKS at a ready wheel.'
    elif [[ ! -f $headers/Python.h ]]; then
        say "mmcv has to be compiled and $headers/Python.h is missing:" \
            'install the headers of that Python (Debian, Ubuntu: apt install python3-dev).'
    fi
}

compile_mmcv() { # compile_mmcv [PIP OPTION...]
    if "$python" -c 'import os, sys, torch
sys.exit(not (torch.cuda.is_available() or os.environ.get("FORCE_CUDA") == "1"))'; then
        "$python" -c 'import sys; from torch.utils.cpp_extension import CUDA_HOME; sys.exit(not CUDA_HOME)' || {
            say 'A GPU is visible but no CUDA toolkit (nvcc): install the one of torch.version.cuda and set CUDA_HOME,'
            say 'or, for CPU operators only, run again with CUDA_VISIBLE_DEVICES= (empty).'
            return 1
        }
    else
        # Shortens the compile; CPU training does not spend its time in these operators.
        export CFLAGS=${CFLAGS--O1 -g0 -w}
    fi
    # Its build imports the torch installed above, hence no isolation.
    MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)} \
        "${install[@]}" -v --no-build-isolation --no-binary "${mmcv%%==*}" "$@" "$mmcv"
}

install_mmcv() {
    local lack
    # After a change of the pins or a break, what is installed may do as it is.
    if "${pip[@]}" freeze | grep -x "$mmcv" && mmcv_works; then return; fi
    if [[ $ready == yes ]]; then
        "${install[@]}" --only-binary "${mmcv%%==*}" "$mmcv" || return
        if mmcv_works; then return; fi
        say 'The ready wheel does not fit, compiling.'
        lack=$(compiler_lack)
        if [[ -n $lack ]]; then say "$lack"; return 1; fi
    else
        # pip may hold the wheel of an earlier compile, for this torch or another.
        compile_mmcv || return
        if mmcv_works; then return; fi
        say 'The build does not work, compiling again.'
    fi
    compile_mmcv --force-reinstall --no-deps --no-cache-dir && mmcv_works
}

step build 'pip, setuptools, wheel, ninja' "${install[@]}" -U -r "$root/requirements/build.txt"

ready=no
if "${pip[@]}" install -q --dry-run --no-deps --only-binary :all: "$mmcv" >/dev/null 2>&1; then ready=yes; fi
if [[ $ready == yes ]]; then
    how="$mmcv: installs a ready wheel"
    mmcv_plan='a ready wheel is at hand, nothing to compile: under a minute'
else
    if ! done_before mmcv; then
        lack=$(compiler_lack)
        [[ -z $lack ]] || fail "$lack"
    fi
    how="$mmcv: compiles"
    mmcv_plan='no ready wheel, so it is compiled: 5 to 12 minutes on 2 cores, longer with CUDA operators'
fi
say 'What follows, with times measured on 2 cores and a fast network:'
say '  [2/6] torch and torchvision: 1 to 3 minutes'
say "  [3/6] mmcv: $mmcv_plan"
say '  [4/6] the other packages: about 1 minute'
say '  [5/6], [6/6] mmpvg itself, then a trial import of everything: under a minute'

step torch 'torch, torchvision, numpy' "${install[@]}" torch torchvision numpy
step mmcv "$how" install_mmcv
step packages 'mmengine, mmdet, mmseg, mmpretrain, tests' \
    "${install[@]}" -r "$pins" -r "$root"/requirements/runtime.txt \
    -r "$root"/requirements/optional.txt -r "$root"/requirements/tests.txt
step mmpvg 'mmpvg, editable' \
    "${pip[@]}" install --no-build-isolation --no-deps -e "$root"
step check 'importing mmcv.ops, mmdet, mmseg, mmpretrain, mmpvg' \
    "$python" -c "
from mmpvg.utils import require_stack
require_stack('mmdet', 'mmseg', 'mmpretrain')
import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, mmpvg.registry"
printf '%s' "$key" >"$state/all"
say "Ready in $(elapsed $((SECONDS - started))). To use it: source $venv/bin/activate"
