"""Reading annotation files, with a finding for each way in which that fails."""

from __future__ import annotations

import json
import os.path as osp
from pathlib import Path
from typing import Any

from .finding import Finding

_TEXT = 'file is not plain UTF-8'


class JsonFiles:
    """Reads JSON files and keeps the last: a data set and its metric mostly share one."""

    def __init__(self) -> None:
        self.path, self.content, self.findings = '', None, []

    def read(self, path: str) -> tuple[Any, list[Finding]]:
        """Content of a file, None if there is none, and what keeps training from reading it."""
        if osp.realpath(path) != self.path:
            # The old content goes first: there may not be memory for two.
            self.content = None
            self.content, self.findings = _read_json(path)
            self.path = osp.realpath(path)
        return self.content, self.findings


def _read_json(path: str) -> tuple[Any, list[Finding]]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        return None, [Finding(path, 'file cannot be read', str(error), 'stops')]
    text, findings = decode_text(data, path)
    del data  # 450 MB for COCO, beside the objects
    try:
        return json.loads(text), findings
    except (ValueError, RecursionError) as error:
        return None, [*findings, Finding(path, 'file is not JSON', str(error), 'stops')]


def decode_text(data: bytes, path: str) -> tuple[str, list[Finding]]:
    """Decode a text, also one in an encoding that training cannot read, which is a finding."""
    findings = []
    encoding = json.detect_encoding(data)
    if encoding == 'utf-8-sig':
        detail = 'it begins with a byte order mark; save it as UTF-8 without one'
        findings.append(Finding(path, _TEXT, detail, 'stops'))
    elif encoding != 'utf-8':
        detail = f'it is encoded as {encoding.upper()}; save it as UTF-8'
        findings.append(Finding(path, _TEXT, detail, 'stops'))
    try:
        return data.decode(encoding), findings
    except UnicodeDecodeError as error:
        bad = f'byte 0x{data[error.start]:02x} at position {error.start}'
        detail = f'{bad} is not UTF-8 (Latin-1?); save it as UTF-8'
        return data.decode('latin-1'), [*findings, Finding(path, _TEXT, detail, 'stops')]
