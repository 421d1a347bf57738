"""Loading weights that fit a model wholly, or refusing them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from mmpvg.utils.errors import UserError

from .mmengine_reading import read_checkpoint


def load_weights(model: nn.Module, checkpoint: str | Path) -> None:
    """Load the weights of a checkpoint, all of them and no others, without running what it holds.

    Args:
        model: The model of a config.
        checkpoint: A file or a URL.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        ValueError: If it is refused, or does not fit the model.
    """
    fit_weights(model, read_checkpoint(checkpoint), str(checkpoint))


def fit_weights(model: nn.Module, checkpoint: Any, source: str | None) -> None:
    """Load all weights of a state dict, or of a dict that holds one, and no others.

    Args:
        model: The model.
        checkpoint: What was read.
        source: Where it is from, for the message.

    Raises:
        ValueError: If it does not fit the model.
    """
    if not isinstance(checkpoint, dict):
        raise UserError(f'{source} holds no weights but a {type(checkpoint).__name__}')
    with _misfits_named(source):
        _load_checkpoint_to_model(model, checkpoint, strict=True)


@contextmanager
def strict_loading(
    runner: Runner, source: str | None, left_out: Sequence[str] = ()
) -> Iterator[None]:
    """Let a runner refuse checkpoints that do not fit its model, which mmengine loads in part.

    Args:
        runner: Just built. It loads when it tests, after its hooks have started.
        source: The checkpoint, for the message.
        left_out: Prefixes of parameters that the model does without on purpose.

    Raises:
        ValueError: If it does not fit the model.
    """
    runner.load_checkpoint = partial(runner.load_checkpoint, strict=True)
    if left_out:
        runner.register_hook(_LeaveOut(tuple(left_out)))
    with _misfits_named(source):
        yield


class _LeaveOut(Hook):
    """Takes parameters out of a checkpoint before it is loaded."""

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes = prefixes

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        weights = checkpoint.get('state_dict', checkpoint)
        for name in [name for name in weights if name.startswith(self.prefixes)]:
            del weights[name]


@contextmanager
def _misfits_named(source: str | None) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith('The model and loaded state dict do not match'):
            raise
        raise UserError(
            f'{source} does not fit the model of the config: {_shorten(str(error))}. Give the '
            'config that it was trained with, with the same --cfg-options'
        ) from error


def _shorten(misfit: str) -> str:
    """The message of mmengine, which lists each key, with some of them."""
    lines = [line.strip() for line in misfit.splitlines()[1:] if line.strip()]
    kept = []
    for line in lines[:3] + lines[3:][-2:]:
        what, _, keys = line.partition(' in source state_dict: ')
        parts = defaultdict(list)
        for key in filter(None, keys.split(', ')):
            parts[key.split('.')[0]].append(key)
        some = [
            few[0] + (f' (and {len(few) - 1} more of {part})' if len(few) > 1 else '')
            for part, few in parts.items()
        ]
        kept.append(f'{what}: {", ".join(some)}' if some else line)
    return '; '.join(kept)
