"""Two gloo processes on this host: the scripts run, and gradients are those of one process."""

import os
import subprocess

import pytest
import torch

from benchmarks.robustness.process_study import gradients_of_processes

pytestmark = pytest.mark.slow

UPERNET = 'configs/sample/upernet_vit_mpvg_sample.py'
CLASSIFIER = 'configs/sample/classifier_vit_mpvg-ggem_sample.py'
LOADERS = ('train', 'val', 'test')


def run(command, **environment):
    return subprocess.run(
        [str(part) for part in command],
        env={**os.environ, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_dist_train_and_dist_test_of_a_classifier(repo, digits_data, tmp_path):
    """Of detectors and segmenters: see test_recipes.py."""
    options = [f'{split}_dataloader.dataset.data_root={digits_data}/' for split in LOADERS]
    options += ['train_cfg.max_epochs=2', 'train_cfg.val_interval=2']
    done = run(
        ['bash', repo / 'tools/dist_train.sh', repo / CLASSIFIER, 2, '--work-dir', tmp_path]
        + ['--cfg-options', *options, 'train_dataloader.batch_size=32']
    )
    assert done.returncode == 0, done.stderr[-3000:]
    weights = tmp_path / 'epoch_2.pth'
    assert weights.exists()
    done = run(
        ['bash', repo / 'tools/dist_test.sh', repo / CLASSIFIER, weights, 2]
        + ['--work-dir', tmp_path / 'test', '--cfg-options', *options]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.glob('test/*/*.json'))


def test_two_processes_give_the_gradients_of_one(task, repo, data_root, tmp_path):
    found = gradients_of_processes(repo / task.config, data_root, (2, 2), tmp_path / 'found.pt')
    assert len(found['ddp']) == found['parameters'], 'a parameter was left without a gradient'
    assert_close(found['ddp'], found['shards'], atol=1e-5)
    if task.owner == 'mmdet':
        assert_close(*found['features'], atol=1e-6)
    else:
        assert_as_joined(found)


def test_unequal_shards_of_three_processes_count_alike(repo, sample_data, tmp_path):
    """The mean over the processes, which weighs the images unequally, as documented."""
    found = gradients_of_processes(repo / UPERNET, sample_data, (2, 1, 1), tmp_path / 'found.pt')
    assert_close(found['ddp'], found['shards'], atol=1e-5)
    with pytest.raises(AssertionError):
        assert_as_joined(found)


def assert_as_joined(found):
    assert_close(found['ddp'], found['joined'], atol=1e-5)
    mean = torch.stack(found['losses']).mean()
    assert mean.item() == pytest.approx(found['joined_loss'].item(), rel=1e-5)


def assert_close(found, wanted, atol):
    assert set(found) == set(wanted)
    for name, gradient in found.items():
        assert torch.allclose(gradient, wanted[name], atol=atol, rtol=1e-3), name


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_scripts_tell_their_usage(repo, script):
    done = run(['bash', repo / 'tools' / script])
    assert done.returncode == 2 and 'usage: ' in done.stderr and 'CONFIG' in done.stderr


def test_several_nodes_need_an_address(repo):
    done = run(['bash', repo / 'tools/dist_train.sh', 'c.py', 8], NNODES='2')
    assert done.returncode == 2 and 'MASTER_ADDR' in done.stderr


def test_slurm_scripts_start_srun(repo, tmp_path):
    """srun itself is not here: what stands in for it prints what it was asked to start."""
    (tmp_path / 'srun').write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    done = run(
        ['bash', repo / 'tools/slurm_train.sh', 'gpu', 'job', 'c.py', 'work', '--resume'],
        PATH=path,
        GPUS='16',
        SRUN_ARGS='--time=1:00 --quiet',
    )
    asked = done.stdout.split('|')
    for part in ('--ntasks=16', '--ntasks-per-node=8', '--time=1:00', '--quiet'):
        assert part in asked
    assert asked[-9:-1] == [
        '-u', str(repo / 'tools/train.py'), 'c.py', '--work-dir', 'work', '--resume',
        '--launcher', 'slurm',
    ]  # fmt: skip


def test_slurm_requeues_what_was_signaled_to_end(repo, tmp_path):
    """The stand-ins run the batch script at once, let srun get a signal, and note the requeue."""
    stand_ins = dict(
        sbatch='printf "%s\\n" "$@" >$HERE/options; SLURM_JOB_ID=7 bash',
        srun='echo $MMPVG_RUN >$HERE/run; printf "%s\\n" "$@" >$HERE/started;'
        'printf "$SAYS" >$MMPVG_EXIT_CODE_FILE; exit 137',
        scontrol='echo "$@" >>$HERE/requeued',
    )
    for name, lines in stand_ins.items():
        (tmp_path / name).write_text(f'#!/bin/sh\n{lines}\n')
        (tmp_path / name).chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    command = ['bash', repo / 'tools/slurm_train.sh', 'gpu', 'job', 'my config.py', 'work']
    environment = dict(PATH=path, HERE=str(tmp_path), REQUEUE='1', SBATCH_ARGS='--time=4:00:00')
    done = run(command, SAYS='pid 3\nexit 75\n', **environment)
    assert done.returncode == 75, done.stderr
    assert (tmp_path / 'requeued').read_text() == 'requeue 7\n'
    started = (tmp_path / 'started').read_text().splitlines()
    assert started[-6:] == ['my config.py', '--work-dir', 'work', '--resume', '--launcher', 'slurm']
    options = (tmp_path / 'options').read_text().splitlines()
    assert {'--requeue', '--signal=TERM@120', '--time=4:00:00', '--ntasks=8'} <= set(options)
    # A requeued job goes on from its own checkpoints, from FILE only while there is none.
    assert (tmp_path / 'run').read_text() == 'slurm-7\n'
    for resume in (['--resume', 'a.pth'], ['--resume=a.pth']):
        assert run([*command, *resume], SAYS='', **environment).returncode == 137
        started = (tmp_path / 'started').read_text().splitlines()
        assert started[started.index('work') + 1 :] == [*resume, '--launcher', 'slurm']
    # A run that failed is not started again, and keeps its exit status.
    assert run(command, SAYS='', **environment).returncode == 137
    assert (tmp_path / 'requeued').read_text() == 'requeue 7\n'


def test_nodes_that_come_and_go_need_a_place_to_meet(repo):
    done = run(['bash', repo / 'tools/dist_train.sh', 'c.py', 8], NNODES='1:4')
    assert done.returncode == 2 and 'RDZV_ENDPOINT' in done.stderr
    # Without a name, each node would take another run for its own.
    command = ['bash', repo / 'tools/dist_train.sh', 'c.py', 8]
    done = run(command, NNODES='1:4', RDZV_ENDPOINT='localhost:29500')
    assert done.returncode == 2 and 'RDZV_ID' in done.stderr
