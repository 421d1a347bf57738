"""The instructions of the pickles in a file of ``torch.save``, followed without running them."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from .inert import MAX_DEPTH, RefusedFileError


def names_in(path: Path, archive: bool) -> set[str]:
    """Classes and functions that the pickles of a file name.

    Tuples are the only containers that Python hashes, without a limit of depth: one that is nested
    deep enough ends the process as soon as it is a key. So their depth is checked here, before the
    file is read.

    Args:
        path: The file, as ``torch.save`` writes it.
        archive: Whether it is a zip archive, as since torch 1.6.

    Raises:
        RefusedFileError: If tuples are nested too deeply, or an instruction takes from an empty
            stack.
    """
    names = set()
    stack: list[Any] = []
    memo: dict[int, int] = {}
    for code, argument in _opcodes(path, archive):
        if code.name == 'GLOBAL':
            names.add(argument.replace(' ', '.'))
        try:
            _follow(code, argument, stack, memo)
        except (IndexError, KeyError, ValueError):
            raise RefusedFileError(
                f'it is damaged: its pickle takes what is not there ({code.name}); get it again'
            ) from None
        if stack and stack[-1] is not _MARK and stack[-1] > MAX_DEPTH:
            raise RefusedFileError(f'it nests tuples more than {MAX_DEPTH} levels deep')
        if code.name == 'STOP':
            stack, memo = [], {}
    return names


_MARK = pickletools.markobject


def _follow(
    code: pickletools.OpcodeInfo, argument: Any, stack: list[Any], memo: dict[int, int]
) -> None:
    """Keep the stack of an unpickler, but of each object only how deeply it nests tuples."""
    if code.name in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
        memo[len(memo) if argument is None else argument] = stack[-1]
        return
    if code.name in ('GET', 'BINGET', 'LONG_BINGET'):
        stack.append(memo[argument])
        return
    if code.name == 'MARK':
        stack.append(_MARK)
        return
    taken = []
    for wanted in reversed(code.stack_before):
        if wanted is pickletools.stackslice:
            continue
        if wanted is _MARK:
            while (depth := stack.pop()) is not _MARK:
                taken.append(depth)
        else:
            taken.append(stack.pop())
    if code.name == 'DUP':
        stack += taken * 2
    elif code.name.startswith('TUPLE'):
        stack.append(1 + max(taken, default=0))
    else:
        # No other container is hashed by what it holds.
        stack += [0] * len(code.stack_after)


def _opcodes(path: Path, archive: bool) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    # What is no pickle is refused by the reader, which stops at the same instruction.
    with path.open('rb') as file, suppress(ValueError):
        if archive:
            with zipfile.ZipFile(file) as members:
                pickles = [members.read(n) for n in members.namelist() if n.endswith('/data.pkl')]
        else:
            # A magic number, a version, the machine, the content, the storages.
            pickles = [file] * 5
        for content in pickles:
            for code, argument, _ in pickletools.genops(content):
                yield code, argument
