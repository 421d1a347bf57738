"""One of two gloo processes that train the model of tests/tiny_run.py; one gets a bad image."""

import importlib.util
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.model import MMDistributedDataParallel

from mmpvg.engine import FiniteLossHook
from mmpvg.engine.config.host import end_process

spec = importlib.util.spec_from_file_location('tiny', Path(__file__).parents[2] / 'tiny_run.py')
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


class BadGradient(Hook):
    """In the second epoch, in one process."""

    def before_train(self, runner):
        if dist.get_rank() == 1:
            runner.model.module.layer.weight.register_hook(
                lambda g: g * float('nan') if runner.iter == 2 else None
            )


def main(folder: str) -> None:
    dist.init_process_group('gloo')
    hooks = [FiniteLossHook(), BadGradient()]
    runner = tiny.build(folder, epochs=2, data=tiny.Numbers(8, bad=[5]), hooks=hooks)
    # mmengine's own launcher selects a CUDA device.
    runner.model = MMDistributedDataParallel(runner.model, broadcast_buffers=False)
    runner.train()
    torch.save(runner.model.module.layer.state_dict(), f'{folder}/{dist.get_rank()}.pt')
    dist.barrier()
    dist.destroy_process_group()
    end_process()


if __name__ == '__main__':
    main(sys.argv[1])
