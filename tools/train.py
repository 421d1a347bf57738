"""Train a detector or a segmenter: ``python tools/train.py CONFIG``."""

from mmpvg.engine.cli import train
from mmpvg.engine.host import end_process
from mmpvg.engine.preemption_hook import Preempted

if __name__ == '__main__':
    try:
        train()
    except Preempted as preempted:
        end_process(preempted.code)
    end_process()
