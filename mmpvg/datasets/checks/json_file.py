"""Reading an annotation file, with a sentence for each way in which that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .finding import Finding

_TEXT = 'file is not plain UTF-8'


def read_json(path: str | Path) -> tuple[Any, list[Finding]]:
    """Parse a JSON file, also one in an encoding that training cannot read.

    Args:
        path: The file.

    Returns:
        The content, None if there is none, and what keeps training from reading the file.
    """
    path = str(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return None, [Finding(path, 'file cannot be read', str(error), 'stops')]
    text, findings = decode_text(data, path)
    # Of 450 MB for COCO: not beside the objects.
    del data
    try:
        return json.loads(text), findings
    except (ValueError, RecursionError) as error:
        return None, [*findings, Finding(path, 'file is not JSON', str(error), 'stops')]


def decode_text(data: bytes, path: str) -> tuple[str, list[Finding]]:
    """Decode a text, also one in an encoding that training cannot read.

    Args:
        data: Content of the file.
        path: The file.

    Returns:
        The text, and what keeps training from reading it.
    """
    findings = []
    encoding = json.detect_encoding(data)
    if encoding == 'utf-8-sig':
        detail = 'it begins with a byte order mark; save it as UTF-8 without one'
        findings.append(Finding(path, _TEXT, detail, 'stops'))
    elif encoding != 'utf-8':
        detail = f'it is encoded as {encoding.upper()}; save it as UTF-8'
        findings.append(Finding(path, _TEXT, detail, 'stops'))
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        bad = f'byte 0x{data[error.start]:02x} at position {error.start}'
        detail = f'{bad} is not UTF-8 (Latin-1?); save it as UTF-8'
        findings.append(Finding(path, _TEXT, detail, 'stops'))
        text = data.decode('latin-1')
    return text, findings
