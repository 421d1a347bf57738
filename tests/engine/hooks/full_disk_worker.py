"""Trains on a file system of its own that fills up: ``python full_disk_worker.py FOLDER``."""

import importlib.util
import sys
from pathlib import Path

import torch
from mmengine.runner import Runner

from mmpvg.utils.whole_file import PART_SUFFIX

spec = importlib.util.spec_from_file_location('tiny', Path(__file__).parents[2] / 'tiny_run.py')
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


class Large(tiny.Tiny):
    """A megabyte, two with its momentum."""

    def __init__(self):
        super().__init__()
        self.more = torch.nn.Parameter(torch.zeros(2**18))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        out = super().forward(inputs, data_samples, mode)
        return {**out, 'loss_more': self.more.square().mean()} if mode == 'loss' else out


def runner(folder, **kwargs):
    return Runner(
        model=Large(),
        work_dir=str(folder),
        train_dataloader=dict(
            batch_size=2, num_workers=0, dataset=tiny.Numbers(), sampler=dict(type='DefaultSampler')
        ),
        train_cfg=dict(type='mmpvg.EpochBasedTrainLoop', max_epochs=5),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(checkpoint=dict(type='mmpvg.CheckpointHook', interval=1)),
        default_scope='mmengine',
        **kwargs,
    )


def main(folder):
    try:
        runner(folder, experiment_name='first').train()
    except OSError as error:
        print(error)
    checkpoints = sorted(folder.glob('*.pth'))
    print('checkpoints', [path.name for path in checkpoints])
    print('parts', len(list(folder.glob(f'*{PART_SUFFIX}'))))
    for path in checkpoints:
        torch.load(path, weights_only=False)
    # The user makes room, and goes on.
    checkpoints[0].unlink()
    checkpoints[1].unlink()
    resumed = runner(folder, experiment_name='second', resume=True)
    resumed.train()
    print('ended at epoch', resumed.epoch)


if __name__ == '__main__':
    main(Path(sys.argv[1]))
