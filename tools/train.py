"""Train a detector or a segmenter: ``python tools/train.py CONFIG``."""

from mmpvg.engine.cli import train

if __name__ == '__main__':
    train()
