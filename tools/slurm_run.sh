#!/usr/bin/env bash
# Starts a tool on a Slurm cluster: slurm_run.sh PARTITION JOB_NAME SCRIPT ARGUMENTS...
# slurm_train.sh and slurm_test.sh call this. Environment variables: GPUS, GPUS_PER_NODE, CPUS_PER_TASK,
# SRUN_ARGS. REQUEUE=1 submits a batch job instead (options in SBATCH_ARGS). It requeues itself after a
# pre-emption and when its time is up; the processes receive a signal GRACE seconds before.
set -euo pipefail
unset CDPATH # otherwise cd prints the folder
partition=$1 job=$2 script=$3
shift 3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
read -r -a srun_args <<<"${SRUN_ARGS:-}"
read -r -a sbatch_args <<<"${SBATCH_ARGS:-}"

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$tools/..${PYTHONPATH:+:$PYTHONPATH}"
resources=(-p "$partition" --job-name="$job" --gres=gpu:"$GPUS_PER_NODE" --ntasks="$GPUS"
    --ntasks-per-node="$GPUS_PER_NODE" --cpus-per-task="$CPUS_PER_TASK")
start=(--kill-on-bad-exit=1 ${srun_args[@]+"${srun_args[@]}"}
    python -u "$tools/$script" "$@" --launcher slurm)
if [[ ${REQUEUE:-0} != 1 ]]; then
    exec srun "${resources[@]}" "${start[@]}"
fi

# srun returns the highest exit code, even of a process that it killed; the file has that of the run.
exec sbatch "${resources[@]}" --requeue --open-mode=append --signal=TERM@"${GRACE:-120}" \
    ${sbatch_args[@]+"${sbatch_args[@]}"} <<EOF
#!/usr/bin/env bash
export MMPVG_EXIT_CODE_FILE=\$(mktemp)
# The same after a requeue: the run continues from its own checkpoints.
export MMPVG_RUN=slurm-\$SLURM_JOB_ID
srun --cpus-per-task=$CPUS_PER_TASK$(printf ' %q' "${start[@]}")
status=\$?
code=\$(sed -n 's/^exit //p' "\$MMPVG_EXIT_CODE_FILE" | tail -n 1)
rm -f "\$MMPVG_EXIT_CODE_FILE"
if [[ \$code == 75 ]]; then
    scontrol requeue "\$SLURM_JOB_ID"
fi
exit "\${code:-\$status}"
EOF
