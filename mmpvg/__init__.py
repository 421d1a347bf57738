"""Plain vision transformers with layer-wise position embedding (PE) for OpenMMLab.

MPVG adds the PE at the input, in every block but block 0, and after the last LayerNorm; in blocks
and at the end through a LayerNorm of its own, with 2 D parameters each.
"""

from .version import __version__

__all__ = ['__version__']
