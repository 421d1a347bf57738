"""Test a detector or a segmenter: ``python tools/test.py CONFIG CHECKPOINT``."""

from mmpvg.engine.cli import test

if __name__ == '__main__':
    test()
