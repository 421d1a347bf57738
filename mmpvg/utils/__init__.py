"""Helpers that need neither torch nor an mm* package to be imported."""

from .stack import require_stack

__all__ = ['require_stack']
