"""Manage the compiler-free operators: ``python -m mmpvg.ops install|status|uninstall``."""

from __future__ import annotations

import argparse
import sys

from mmpvg.utils.errors import UserError

from .installation import install, status, uninstall


def main() -> None:
    """Do what the command line says and print the outcome."""
    parser = argparse.ArgumentParser(
        prog='python -m mmpvg.ops',
        description="mmcv's operators without a compiler",
    )
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('install', help="write _ext.py into this environment's mmcv")
    commands.add_parser('status', help='say which operators run; fails if there are none')
    commands.add_parser('uninstall', help='remove what install wrote')
    command = parser.parse_args().command
    try:
        print({'install': install, 'status': status, 'uninstall': uninstall}[command]())
    except UserError as error:
        sys.exit(str(error))


if __name__ == '__main__':
    main()
