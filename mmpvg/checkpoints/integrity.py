"""Whether a checkpoint file is complete and undamaged."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path


def find_damage(path: str | Path) -> str | None:
    """Check a file against the checksums that ``torch.save`` wrote into it.

    ``torch.save`` writes a zip archive with a CRC-32 of every member (pickle and tensors), which
    ``torch.load`` does not verify. Nothing is unpickled here. The whole file is read once, in
    pieces of 1 MiB; what follows the archive or precedes it is not looked at.

    Args:
        path: The file.

    Returns:
        None if the file is a whole torch archive; otherwise a few words of what is wrong, to follow
        "it is" or a dash.

    Raises:
        OSError: If the file cannot be opened.
    """
    with Path(path).open('rb') as file:
        try:
            with zipfile.ZipFile(file) as archive:
                if not any(name.endswith('/data.pkl') for name in archive.namelist()):
                    return 'a zip archive, but not one of torch.save (it has no data.pkl)'
                # A small file may hold any number of bytes so.
                if any(member.compress_type for member in archive.infolist()):
                    return (
                        'compressed, which torch.save never does: a TorchScript program, or packed '
                        'by another program'
                    )
                # torch finds members whatever their case, and not always the one that zipfile does.
                names = [name.casefold() for name in archive.namelist()]
                if len(set(names)) < len(names):
                    return 'damaged: it has two members of one name'
                damaged = archive.testzip()
        except zipfile.BadZipFile:
            return 'empty, truncated, or not a zip archive as torch.save writes it'
        except (OSError, EOFError, RuntimeError, ValueError, zlib.error) as error:
            # What zipfile raises for a damaged directory of members, beside BadZipFile.
            return f'damaged ({type(error).__name__}: {error})'
    return None if damaged is None else f'damaged: the checksum of {damaged} does not match'
