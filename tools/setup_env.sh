#!/usr/bin/env bash
# Creates a virtual environment with one of the two stacks and an editable install of mmpvg.
#
#   bash tools/setup_env.sh [--stack current|legacy] [--venv FOLDER] [--ops free|compiled]
#                           [--torch auto|cpu|cuda]
#
#   --ops    free (default): mmcv's operators on torchvision, no compiler needed (docs/operators.md);
#            compiled: compiles mmcv's own, with a C++ compiler, and nvcc for CUDA.
#   --torch  cpu: a CPU-only build of torch, if the package index has one; cuda: the index's default
#            build; auto (default): cpu where there is no NVIDIA GPU and the index has it.
#
# Steps already done are skipped, so after a failure run it again; once all is done it returns at
# once. Packages are installed by uv, which is installed into the environment if it is not in PATH.
# Environment: PYTHON (interpreter to use), uv's and pip's own variables, e.g. PIP_FIND_LINKS for a
# folder of wheels. For --ops compiled also MAX_JOBS (parallel compilers), CFLAGS, FORCE_CUDA=1 (CUDA
# operators although no GPU is visible), CUDA_VISIBLE_DEVICES= (none although one is).
set -euo pipefail
unset CDPATH # otherwise cd prints the folder

say() { printf '%s\n' "$*"; }
fail() { printf 'setup_env: %s\n' "$*" >&2; exit 1; }
elapsed() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stack=current
ops=free
build=auto
venv=
while (($#)); do
    case $1 in
        --stack) stack=${2:-}; shift ;;
        --venv) venv=${2:-}; shift; [[ -n $venv ]] || fail '--venv needs a folder' ;;
        --ops) ops=${2:-}; shift ;;
        --torch) build=${2:-}; shift ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit ;;
        *) fail "unknown argument '$1', see --help" ;;
    esac
    shift || fail 'the last argument needs a value, see --help'
done
# mmdet 3.3.0's and mmseg 1.2.2's own requirements have no releases for newer Pythons.
case $stack in
    current) newest=13; venv=${venv:-$root/.venv} ;;
    legacy) newest=11; venv=${venv:-$root/.venv-legacy} ;;
    *) fail "unknown stack '$stack', expected 'current' or 'legacy'" ;;
esac
[[ $ops == free || $ops == compiled ]] || fail "unknown --ops '$ops', expected 'free' or 'compiled'"
[[ $build =~ ^(auto|cpu|cuda)$ ]] || fail "unknown --torch '$build', expected 'auto', 'cpu' or 'cuda'"
[[ $venv == /* ]] || venv=$PWD/$venv
pins=$root/requirements/$stack.txt
state=$venv/.setup
python=$venv/bin/python

# A step is done when its stamp holds this key: the inputs' checksum, and where the clone lies, since
# the editable install points there.
inputs=("$pins" "$root"/requirements/{build,runtime,optional,tests}.txt
    "$root"/{setup.py,pyproject.toml,mmpvg/version.py})
key="$root $ops $build $(cat "${inputs[@]}" | cksum)"
done_before() { [[ -x $python && -f $state/$1 && $(<"$state/$1") == "$key" ]]; }
done_before all && exit 0

# --- Before anything is downloaded: Python, disk --------------------------------------------------

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
    for candidate in python3 python3.11 python3.12 python3.13 python3.10; do
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
# Of an interrupted creation, or made by uv.
"$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip
mkdir -p "$state"
rm -f "$state/all"
pip=("$python" -m pip --disable-pip-version-check)
mmcv=$(grep -oE '^(onedl-)?mmcv==.*' "$pins")

# uv reads its own settings, not pip's: hand it the indexes that pip is configured with.
pip_settings=$("${pip[@]}" config list)
pip_setting() { # pip_setting NAME: on one line, from where pip takes it
    local section value
    for section in :env: install global; do
        value=$(sed -nE "s/^$section\\.$1='(.*)'\$/\\1/p" <<<"$pip_settings")
        [[ -n $value ]] && break
    done
    sed -E 's/\\n/ /g; s/^ +//; s/ +$//; s/ +/ /g' <<<"$value"
}
bridge() { # bridge UV_VARIABLE pip-setting SEPARATOR
    local value
    value=$(pip_setting "$2" | tr ' ' "$3")
    if [[ -z ${!1:-} && -n $value ]]; then export "$1=$value"; fi
}
bridge UV_DEFAULT_INDEX index-url ' '
bridge UV_INDEX extra-index-url ' '
bridge UV_FIND_LINKS find-links ,
# As pip does: the best version of all indexes, not of the first that has the package.
export UV_INDEX_STRATEGY=${UV_INDEX_STRATEGY:-unsafe-best-match}

install() { # install ARGUMENT...: with the stack's versions, also of what builds a package
    "$uv" pip install --python "$python" -c "$pins" --build-constraint "$pins" "$@"
}

# Prints the elapsed time and the last line of the log while a step runs.
heartbeat() {
    local log=$1 start=$SECONDS line
    while sleep 20 >/dev/null 2>&1; do
        # For a compile, ninja's [done/all]; otherwise the last line.
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
        say "[$number/7] $what: already done"
        return
    fi
    say "[$number/7] $what"
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
        # Then something was changed after its step.
        [[ $name != check ]] || rm -f "$state"/{torch,mmcv,packages,mmpvg,operators}
        fail "step $number ($what) failed, its log is $log; running the same command again continues here."
    fi
    printf '%s' "$key" >"$state/$name"
    say "      done in $(elapsed $((SECONDS - start)))"
}

# --- The steps ------------------------------------------------------------------------------------

install_uv() {
    "${pip[@]}" install -c "$pins" -r "$root/requirements/build.txt" &&
        { command -v uv || "${pip[@]}" install uv; }
}

has_gpu() { [[ ${FORCE_CUDA:-} == 1 ]] || { command -v nvidia-smi && nvidia-smi -L; } >/dev/null 2>&1; }

# The CPU-only builds of torch's own index have a local version.
cpu_builds() { sed -nE 's/^(torch(vision)?==[^+ ]+)$/\1+cpu/p' "$pins"; }

install_torch() {
    local cpu builds
    # Words without spaces; bash 3.2 of macOS has no mapfile.
    cpu=$(cpu_builds)
    # CPU-only builds count as newer than others of their version.
    builds=${cpu//==/!=}
    if [[ $build == cpu ]] || { [[ $build == auto ]] && ! has_gpu; }; then
        if install --dry-run --no-deps $cpu >/dev/null 2>&1; then
            builds=$cpu
        elif [[ $(uname -sm) == 'Linux x86_64' && $build == cpu ]]; then
            say "The package index has no ${cpu%%[[:space:]]*}: set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU builds," \
                'or leave --torch out.'
            return 1
        fi
    fi
    install $builds numpy
}

# The operators of an installed mmcv: compiled, or none.
compiled_works() {
    "$python" - <<'PY'
import os, sys
from pathlib import Path
import torch, mmcv
if not list(Path(mmcv.__file__).parent.glob('_ext.*.*')):
    sys.exit('mmcv has no compiled operators')
from mmcv.ops import get_compiling_cuda_version
wants_cuda = torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1'
if wants_cuda and get_compiling_cuda_version() == 'not available':
    sys.exit('mmcv has CPU operators only, but this machine wants CUDA ones')
PY
}

installed() { "$uv" pip freeze --python "$python" | grep -x "$mmcv" >/dev/null; }

# Built without torch in sight, mmcv leaves its operators out: seconds, and no compiler.
install_free() {
    if installed; then return; fi
    install --no-binary "${mmcv%%==*}" "$mmcv"
}

# Prints what a compile lacks, nothing if it can start.
compiler_lack() {
    local headers
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')
    if ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
        say 'mmcv has to be compiled and there is no C++ compiler (g++ or clang++) in PATH:' \
            'install one (Debian, Ubuntu: apt install g++), point PIP_FIND_LINKS at a ready wheel,' \
            'or use the operators that need none: --ops free.'
    elif [[ ! -f $headers/Python.h ]]; then
        say "mmcv has to be compiled and $headers/Python.h is missing:" \
            'install the headers of that Python (Debian, Ubuntu: apt install python3-dev), or use --ops free.'
    fi
}

compile() { # compile [PIP OPTION...]
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
    # Its build imports the torch installed above, hence no isolation; by pip, as uv may hold the
    # wheel without operators.
    MAX_JOBS=${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)} \
        "${pip[@]}" install -c "$pins" -v --no-build-isolation --no-binary "${mmcv%%==*}" "$@" "$mmcv"
}

install_compiled() {
    local lack
    if installed && compiled_works; then return; fi
    # A wheel of an earlier install without operators goes; then its dependencies, without which mmcv
    # cannot be imported, are added where they are missing.
    if [[ $ready == yes ]]; then
        "${pip[@]}" install -c "$pins" --only-binary "${mmcv%%==*}" --force-reinstall --no-deps "$mmcv" &&
            install "$mmcv" || return
        if compiled_works; then return; fi
        say 'The ready wheel does not fit, compiling.'
    fi
    lack=$(compiler_lack)
    if [[ -n $lack ]]; then say "$lack"; return 1; fi
    compile --force-reinstall --no-deps --no-cache-dir && install "$mmcv" && compiled_works
}

step build 'uv, and what packages are built with' install_uv
uv=$(command -v uv || say "$venv/bin/uv")
[[ -x $uv ]] || install_uv # the one of an earlier run is gone

if [[ $ops == free ]]; then
    how="$mmcv: without its compiled operators"
    plan='built without operators, nothing to compile: seconds'
else
    ready=no
    # An mmcv without operators that is installed does not count as a ready wheel.
    wheel=(--dry-run --force-reinstall --no-deps --only-binary :all: "$mmcv")
    if installed && compiled_works >/dev/null 2>&1; then
        how="$mmcv: its compiled operators"
        plan='is there with its operators: seconds'
    elif "${pip[@]}" install -q "${wheel[@]}" >/dev/null 2>&1; then
        ready=yes
        how="$mmcv: installs a ready wheel"
        plan='a ready wheel is at hand, nothing to compile: under a minute'
    else
        if ! done_before mmcv; then
            lack=$(compiler_lack)
            [[ -z $lack ]] || fail "$lack"
        fi
        how="$mmcv: compiles"
        plan='no ready wheel, so it is compiled: 5 to 12 minutes on 2 cores, longer with CUDA operators'
    fi
fi
say 'What follows, with times measured on 2 cores and a fast network:'
say '  [2/7] torch and torchvision: about 1 minute'
say "  [3/7] mmcv: $plan"
say '  [4/7] the other packages: under a minute'
say '  [5/7] to [7/7] mmpvg, its operators, a trial import of everything: under a minute'

step torch 'torch, torchvision, numpy' install_torch
step mmcv "$how" "install_$ops"
step packages 'mmengine, mmdet, mmseg, mmpretrain, tests' \
    install -r "$pins" -r "$root"/requirements/runtime.txt \
    -r "$root"/requirements/optional.txt -r "$root"/requirements/tests.txt
step mmpvg 'mmpvg, editable' install --no-build-isolation --no-deps -e "$root"
# Where compiled operators are there, it says so and writes nothing.
step operators "mmcv's operators" "$python" -m mmpvg.ops install
step check 'importing mmcv.ops, mmdet, mmseg, mmpretrain, mmpvg' \
    "$python" -c "
from mmpvg.utils import require_stack
require_stack('mmdet', 'mmseg', 'mmpretrain')
import mmcv.ops, mmdet.models, mmseg.models, mmpretrain.models, mmpvg.registry"
printf '%s' "$key" >"$state/all"
"$python" -m mmpvg.ops status | sed 's/^/Operators: /'
say "Ready in $(elapsed $((SECONDS - started))). To use it: source $venv/bin/activate"
