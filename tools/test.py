"""Test a detector or a segmenter: ``python tools/test.py CONFIG CHECKPOINT``."""

import sys

from mmpvg.checkpoints import RefusedFileError
from mmpvg.engine.cli import test
from mmpvg.engine.config.host import end_process

if __name__ == '__main__':
    try:
        test()
    except RefusedFileError as error:
        print(f'error: {error}', file=sys.stderr)
        end_process(2)
    end_process()
