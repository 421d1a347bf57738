"""Reading checkpoint files without running what they hold."""

from __future__ import annotations

import pickletools
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import torch

from .inert import (
    MAX_DEPTH,
    Placeholder,
    RefusedFileError,
    build_numbers,
    forbidden,
    placeholder_class,
    placeholders_in,
)

__all__ = ['Placeholder', 'RefusedFileError', 'find_damage', 'load_pth', 'placeholders_in']

# First bytes of a file in the format that torch.save wrote before 1.6: a pickled number.
_STREAM = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'

# Hashing a tuple visits the tuples in it as often as it refers to them.
_MAX_TUPLES = 100_000
_MARK = pickletools.markobject


def load_pth(path: str | Path) -> Any:
    """Read a file of ``torch.save``; no code in it runs.

    All checkpoints of this package are read here, except safetensors and ``.npz``. torch reads with
    ``weights_only=True``. Objects that well-known projects keep beside the weights become
    ``Placeholder``, but NumPy's numbers and arrays and mmengine's logged numbers are built from
    their bytes.

    Args:
        path: The file.

    Returns:
        What the file holds, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        RefusedFileError: A ``ValueError``, if the file names anything else, is a TorchScript
            program, damaged, truncated, nested too deeply, or no checkpoint.
    """
    path = Path(path)
    size = path.stat().st_size
    try:
        return build_numbers(_read(path))
    except RefusedFileError as error:
        raise RefusedFileError(f'cannot read {path} ({size} bytes): {error}') from None
    except Exception as error:  # torch and pickle raise many kinds
        raise RefusedFileError(f'cannot read {path} ({size} bytes): {_why(error)}') from None


def _why(error: Exception) -> str:
    reason = str(error)
    if named := re.search(r'GLOBAL (\S+)', reason):
        return forbidden(named[1])
    # torch surrounds its reason with advice to read without its restrictions.
    reason = reason.split('WeightsUnpickler error:')[-1].strip().split('\n')[0][:160]
    if 'Unsupported operand' in reason:
        return (
            f'torch does not read its pickle safely ({reason}), which is of another protocol than '
            'torch.save writes; save it again without pickle_protocol'
        )
    if type(error).__name__ == 'UnpicklingError':
        return f'it does what no weights need ({reason}); get the weights elsewhere'
    return (
        'it is truncated or no checkpoint of torch; download it again '
        f'({type(error).__name__}: {reason})'
    )


def _read(path: Path) -> Any:
    with path.open('rb') as file:
        head = file.read(len(_STREAM))
    archive = head.startswith(b'PK')
    if archive:
        if damage := find_damage(path):
            raise RefusedFileError(f'it is {damage}; download it again')
        # torch before 2.6 runs such a program even with weights_only=True.
        if 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records():
            raise RefusedFileError(
                'it is a TorchScript program, not weights; save the state_dict() of the model'
            )
    elif head != _STREAM:
        raise RefusedFileError(
            'it is truncated or no checkpoint of torch; a plain pickle is not read, because it '
            'may run any code: save the weights with torch.save or as safetensors'
        )
    names = _names_in(path, archive)
    with torch.serialization.safe_globals([c for n in names if (c := placeholder_class(n))]):
        return torch.load(path, map_location='cpu', weights_only=True)


def find_damage(path: str | Path) -> str | None:
    """Check a file against the checksums that ``torch.save`` wrote into it.

    ``torch.save`` writes a zip archive with a CRC-32 of every member, which ``torch.load`` does not
    verify. The file is read once, in pieces of 1 MiB; nothing is unpickled.

    Args:
        path: The file.

    Returns:
        None if the file is a whole torch archive; otherwise what is wrong, to follow "it is".

    Raises:
        OSError: If the file cannot be opened.
    """
    with Path(path).open('rb') as file:
        try:
            with zipfile.ZipFile(file) as archive:
                # torch finds members whatever their case, and not always those of zipfile.
                names = [name.casefold() for name in archive.namelist()]
                if not any(name.endswith('/data.pkl') for name in archive.namelist()):
                    return 'a zip archive, but not one of torch.save (it has no data.pkl)'
                # Compressed, a small file may hold any number of bytes.
                if any(member.compress_type for member in archive.infolist()):
                    return (
                        'compressed, which torch.save never does: a TorchScript program, or packed '
                        'by another program'
                    )
                if len(set(names)) < len(names):
                    return 'damaged: it has two members of one name'
                damaged = archive.testzip()
        except zipfile.BadZipFile:
            return 'empty, truncated, or not a zip archive as torch.save writes it'
        except (OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
            # Of a damaged directory of members.
            return f'damaged ({type(error).__name__}: {error})'
    return None if damaged is None else f'damaged: the checksum of {damaged} does not match'


def _names_in(path: Path, archive: bool) -> set[str]:
    """Classes and functions that the pickles of a file name, if its tuples can be hashed.

    Python hashes a tuple (the key of a dict) without a limit of depth, which ends the process, and
    torch before 2.6 reads past the end of a tensor that is shorter than it should be. So the
    instructions of the pickles are followed here, without running them, before the file is read.
    """
    names = set()
    sizes = _member_sizes(path) if archive else None
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for code, argument in _opcodes(path, archive):
        if code.name == 'GLOBAL':
            names.add(argument.replace(' ', '.'))
        try:
            if code.name == 'BINPERSID' and sizes is not None:
                _check_storage(stack[-1][2], sizes)
            _follow(code, argument, stack, memo)
        except (IndexError, KeyError, TypeError, ValueError):
            raise RefusedFileError(
                f'it is damaged: its pickle takes what is not there ({code.name}); get it again'
            ) from None
        if stack and stack[-1] is not _MARK:
            depth, number, _ = stack[-1]
            if depth > MAX_DEPTH:
                raise RefusedFileError(f'it nests tuples more than {MAX_DEPTH} levels deep')
            if number > _MAX_TUPLES:
                raise RefusedFileError(f'it has a tuple of more than {_MAX_TUPLES} tuples')
        if code.name == 'STOP':
            stack, memo = [], {}
    return names


def _follow(code: pickletools.OpcodeInfo, argument: Any, stack: list, memo: dict) -> None:
    """Keep the stack of an unpickler: of each object the depth and number of its tuples, its value.

    The value is that of names, texts, numbers and tuples of up to five, None for all else.
    """
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
        if wanted is _MARK:
            while (value := stack.pop()) is not _MARK:
                taken.append(value)
        elif wanted is not pickletools.stackslice:
            taken.append(stack.pop())
    if code.name == 'DUP':
        stack += taken * 2
    elif code.name.startswith('TUPLE'):
        depths, numbers, values = zip((0, 0, None), *taken)
        value = values[:0:-1] if len(taken) <= 5 else None
        stack.append((1 + max(depths), 1 + sum(numbers), value))
    else:
        # No other container is hashed by what it holds.
        stack += [(0, 0, None if code.stack_before else argument)] * len(code.stack_after)


def _member_sizes(path: Path) -> dict[str, int]:
    """Bytes of each tensor's data, by its key."""
    with zipfile.ZipFile(path) as archive:
        parts = [(m.filename.rpartition('/data/'), m.file_size) for m in archive.infolist()]
    return {key: size for (_, found, key), size in parts if found}


def _check_storage(reference: tuple, sizes: dict[str, int]) -> None:
    """Compare what a pickle says of a tensor's data with their size."""
    _, kind, key, _, number = reference
    types = torch.storage._storage_type_to_dtype_map()
    # An UntypedStorage counts bytes.
    item = types.get(kind.removeprefix('torch '), torch.uint8).itemsize
    if not 0 <= number * item <= sizes[key]:
        raise RefusedFileError(
            f'it is damaged: a tensor of {number * item} bytes has {sizes[key]}; download it again'
        )


def _opcodes(path: Path, archive: bool) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    # What is no pickle is refused by the reader, which stops at the same instruction.
    with path.open('rb') as file, suppress(ValueError):
        # Without an archive: a magic number, a version, the machine, the content, the storages.
        pickles: list[IO[bytes] | bytes] = [file] * 5
        if archive:
            with zipfile.ZipFile(file) as members:
                pickles = [members.read(n) for n in members.namelist() if n.endswith('/data.pkl')]
        for content in pickles:
            for code, argument, _ in pickletools.genops(content):
                yield code, argument
