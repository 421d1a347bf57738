"""Makes the folder of a data set once, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmpvg.utils.errors import UserError


def make_once(
    out_dir: str | Path,
    stamp_name: str,
    arguments: dict,
    force: bool,
    write: Callable[[Path], dict],
    damage: Callable[[Path, dict], str],
) -> tuple[dict, bool]:
    """Makes the folder of a data set, or finds that it is already made.

    The files are gathered in ``<out_dir>.partial`` and moved at the end.

    Args:
        out_dir: The folder to make.
        stamp_name: Name of its JSON file that holds the arguments; written last.
        arguments: What it is made with.
        force: Replace a data set that was made with other arguments or is damaged.
        write: Writes the files into a folder, and returns what the stamp holds beside the
            arguments.
        damage: Describes what of the files of a folder does not fit its stamp; '' if all does.

    Returns:
        The stamp, and whether anything was written.

    Raises:
        FileExistsError: If the folder holds a data set that was made with other arguments or is
            damaged (and ``force`` is False), or files without a stamp (these are never replaced).
    """
    out_dir = Path(out_dir).resolve()  # through links: the folder is replaced, not the link to it
    if out_dir.exists() and (not out_dir.is_dir() or any(out_dir.iterdir())):
        stamp = out_dir / stamp_name
        if not stamp.is_file():
            raise FileExistsError(
                f'{out_dir} is not empty and holds no {stamp_name}: it is left alone; choose '
                'another --out (out_dir) or empty it yourself'
            )
        if not force:
            made = json.loads(stamp.read_text(encoding='utf-8'))
            if made['arguments'] != arguments:
                raise FileExistsError(
                    f'{out_dir} was made with {_listed(made["arguments"])}, but '
                    f'{_listed(arguments)} was asked for; pass --force (force=True) to replace it, '
                    'or another --out'
                )
            if problem := damage(out_dir, made):
                raise FileExistsError(
                    f'{problem}; pass --force (force=True) to make the data set again'
                )
            return made, False
    partial = out_dir.with_name(out_dir.name + '.partial')
    shutil.rmtree(partial, ignore_errors=True)
    made = {'arguments': arguments, **write(partial)}
    write_json(partial / stamp_name, made)
    if out_dir.exists():
        shutil.rmtree(out_dir)
    partial.rename(out_dir)
    return made, True


def write_json(path: Path, content: dict) -> None:
    """Writes ``content``, in one line."""
    path.write_text(json.dumps(content), encoding='utf-8')


def whole_number(name: str, value: int, at_least: int) -> int:
    """Returns ``value`` as an int.

    Raises:
        UserError: It is no whole number, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < at_least:
        raise UserError(f'{name} must be a whole number of at least {at_least}, got {value!r}')
    return int(value)


def _listed(arguments: dict) -> str:
    return ', '.join(f'{name} {value}' for name, value in sorted(arguments.items()))
