"""Whether a pass is recorded, and not run."""

from __future__ import annotations

import torch


def is_compiling() -> bool:
    """Whether ``torch.compile`` or ``torch.export`` records this call."""
    # torch 2.1 has it elsewhere.
    home = torch.compiler if hasattr(torch.compiler, 'is_compiling') else torch._utils
    return home.is_compiling()
