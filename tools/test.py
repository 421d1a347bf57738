"""Test a detector or a segmenter: ``python tools/test.py CONFIG CHECKPOINT``."""

from mmpvg.engine.cli import test
from mmpvg.engine.host import end_process

if __name__ == '__main__':
    test()
    end_process()
