"""Train a detector or a segmenter: ``python tools/train.py CONFIG``."""

import sys

from mmpvg.utils.preemption import exit_on_signal

if __name__ == '__main__':
    # Before the other imports, which take seconds.
    exit_on_signal()

    from mmpvg.apis.cli import train
    from mmpvg.engine.config.host import end_process
    from mmpvg.engine.hooks.preemption import Preempted
    from mmpvg.utils.errors import UserError

    try:
        train()
    except Preempted as preempted:
        end_process(preempted.code)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        end_process(2)
    end_process()
