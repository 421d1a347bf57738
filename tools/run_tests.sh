#!/usr/bin/env bash
# Runs lint, type check and tests, and creates the environment first if it does not exist.
#
#   bash tools/run_tests.sh [--stack current|legacy] [-- PYTEST ARGUMENTS]
#
# Without pytest arguments, runs all tests. To run only the fast ones: -- -m 'not slow'
set -euo pipefail
unset CDPATH # otherwise cd prints the folder

elapsed() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stack=current
while (($#)); do
    case $1 in
        --stack) stack=${2:-}; shift ;;
        --) shift; break ;;
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit ;;
        *) echo "run_tests: unknown argument '$1' (arguments for pytest go after --)" >&2; exit 2 ;;
    esac
    shift || { echo "run_tests: '--stack' needs a value" >&2; exit 2; }
done

bash "$root/tools/setup_env.sh" --stack "$stack"
if [[ $stack == current ]]; then venv=$root/.venv; else venv=$root/.venv-$stack; fi
cd "$root"

# Both stacks use the same code, so it is linted and type-checked once.
if [[ $stack == current ]]; then
    echo '== ruff check'
    "$venv/bin/python" -m ruff check .
    echo '== ruff format --check'
    "$venv/bin/python" -m ruff format --check .
    echo '== mypy'
    "$venv/bin/python" -m mypy
fi

echo "== pytest, $stack stack"
start=$SECONDS
status=0
# The environment's programs come first in PATH: tests start torchrun, python and our shell scripts.
# One single-threaded process per core: most of the time is spent starting programs. Files keep the
# order of tests/conftest.py: those with slow tests first, so that none is left alone at the end.
jobs=$(nproc)
PATH=$venv/bin:$PATH OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest --durations=10 \
    -n $((jobs < 8 ? jobs : 8)) --dist loadfile --no-loadscope-reorder "$@" || status=$?
if ((status == 5)); then echo 'run_tests: pytest selected no test, which counts as a failure.' >&2; fi
echo "== pytest, $stack stack: exit status $status after $(elapsed $((SECONDS - start)))"
exit "$status"
