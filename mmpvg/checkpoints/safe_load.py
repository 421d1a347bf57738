"""Reading checkpoint files from anywhere without ever running what they hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from .inert import (
    Placeholder,
    RefusedFileError,
    build_numbers,
    forbidden,
    placeholder_class,
    placeholders_in,
)
from .integrity import find_damage
from .opcodes import names_in

__all__ = ['Placeholder', 'RefusedFileError', 'load_pth', 'placeholders_in']

# Since 2.5 torch takes a list of classes that are harmless.
_TORCH_READS = hasattr(torch.serialization, 'safe_globals')

# First bytes of a file in the format that torch.save wrote before 1.6: a pickled number.
_STREAM = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'


def load_pth(path: str | Path) -> Any:
    """Read a file of ``torch.save``; no code in it runs.

    All checkpoints that this package reads come through here, but for safetensors and ``.npz``.
    torch reads with ``weights_only=True``. Objects that well-known projects keep beside the weights
    become ``Placeholder``, but for NumPy's numbers and arrays and
    mmengine's logged numbers, which are built from their bytes.

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
        _check_archive(path)
    elif head != _STREAM:
        raise RefusedFileError(
            'it is truncated or no checkpoint of torch; a plain pickle is not read, because it '
            'may run any code: save the weights with torch.save or as safetensors'
        )
    names = names_in(path, archive)
    if not _TORCH_READS:
        from .unpickler import read_archive, read_stream

        return read_archive(path) if archive else read_stream(path)
    inert = [found for found in map(placeholder_class, names) if found]
    with torch.serialization.safe_globals(inert):
        return torch.load(path, map_location='cpu', weights_only=True)


def _check_archive(path: Path) -> None:
    if damage := find_damage(path):
        raise RefusedFileError(f'it is {damage}; download it again')
    # As torch looks for it: before 2.6 it runs a program even with weights_only=True.
    if 'constants.pkl' in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise RefusedFileError(
            'it is a TorchScript program, not weights; save the state_dict() of the model instead'
        )
