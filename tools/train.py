"""Train a detector or a segmenter: ``python tools/train.py CONFIG``."""

from mmpvg.engine.cli import train
from mmpvg.engine.host import end_process

if __name__ == '__main__':
    train()
    end_process()
