"""Types of arguments, the output folder and the errors of scripts."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def make_folder(path: Path) -> None:
    """Make the folder for results, if it is not there.

    Raises:
        UserError: If that is a file.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f'{path} is a file; give a folder')
    path.mkdir(parents=True, exist_ok=True)


@contextmanager
def user_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End the script with the message alone at errors that a user can fix.

    Raises:
        SystemExit: In place of ``UserError`` and errors about files and packages.
    """
    try:
        yield
    except (ImportError, OSError, UserError) as error:
        parser.error(str(error))
