"""What scripts read from the command line, and how they tell what is wrong with it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import UserError


def positive(text: str) -> int:
    """Read a whole number from 1 on.

    Raises:
        argparse.ArgumentTypeError: If it is none.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number from 1 on')
    return int(text)


def size_of(text: str) -> tuple[int, int]:
    """Read ``224x320``, or ``224`` for a square.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    sides = text.split('x')
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f'{text!r} is no size; write 224x320, or 224')
    return int(sides[0]), int(sides[-1])


@contextmanager
def told_by(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Let what a user can mend end the script with its message alone.

    Raises:
        SystemExit: In place of errors about files, packages and values.
    """
    try:
        yield
    except (ImportError, OSError, UserError) as error:
        parser.error(str(error))
