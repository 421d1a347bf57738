"""Runs mmcv with one set of operators or another in one process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def operators(ext: Any) -> Iterator[None]:
    """Let every module of ``mmcv.ops`` call the functions of ``ext`` for a while.

    Args:
        ext: ``mmpvg.ops.extension``, or a compiled ``mmcv._ext``.
    """
    import mmcv.ops  # noqa: F401

    before = {
        module: module.ext_module
        for name, module in list(sys.modules.items())
        if name.startswith('mmcv.ops.') and hasattr(module, 'ext_module')
    }
    try:
        for module in before:
            module.ext_module = ext
        yield
    finally:
        for module, own in before.items():
            module.ext_module = own
