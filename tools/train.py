"""Train a detector or a segmenter: ``python tools/train.py CONFIG``."""

import sys

from mmpvg.utils.preemption import exit_when_told

if __name__ == '__main__':
    # Before the other imports, which take seconds.
    exit_when_told()

    from mmpvg.checkpoints import RefusedFileError
    from mmpvg.engine.cli import train
    from mmpvg.engine.config.data_audit import UnusableDataError
    from mmpvg.engine.config.host import end_process
    from mmpvg.engine.hooks.preemption import Preempted

    try:
        train()
    except Preempted as preempted:
        end_process(preempted.code)
    except (RefusedFileError, UnusableDataError) as error:
        print(f'error: {error}', file=sys.stderr)
        end_process(2)
    end_process()
