"""Writes the results of two processes: ``torchrun streamed_results_worker.py FOLDER``."""

import sys
from pathlib import Path

import torch.distributed as dist
from mmengine.evaluator import DumpResults

from mmpvg.apis.streamed_results import streamed
from mmpvg.engine.config.host import end_process, leave_process_group


def main(folder):
    dist.init_process_group('gloo')
    metric = streamed(DumpResults)(out_file_path=str(folder / 'out.pkl'))
    # 71 samples: the second process repeats one, as DefaultSampler does.
    for index in range(dist.get_rank(), 72, 2):
        metric.process(None, [dict(index=index % 71)])
    assert metric.evaluate(71) == {}
    leave_process_group()
    end_process()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
