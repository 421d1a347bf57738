"""Test a detector or a segmenter: ``python tools/test.py CONFIG CHECKPOINT``."""

import sys

from mmpvg.apis.cli import test
from mmpvg.engine.config.host import end_process
from mmpvg.utils.errors import UserError

if __name__ == '__main__':
    try:
        test()
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        end_process(2)
    end_process()
