"""Inert stand-ins for the objects beside the weights in a checkpoint, and the numbers in them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

from mmpvg.utils.errors import UserError

# Modules whose objects stand beside the weights in published checkpoints: arguments, configs,
# optimizers, logged numbers. None of them is imported or called; a Placeholder takes their place.
_MODULES = (
    'argparse', 'collections', 'datetime', 'detectron2', 'functools', 'fvcore', 'lightning',
    'lightning_fabric', 'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmseg', 'numpy', 'omegaconf',
    'pathlib', 'pytorch_lightning', 'timm', 'torch.optim', 'typing', 'yacs',
)  # fmt: skip
_BUILTINS = (
    'bool', 'bytes', 'dict', 'float', 'frozenset', 'getattr', 'int', 'list', 'object', 'slice',
    'str', 'tuple',
)  # fmt: skip

# Deeper than any checkpoint is nested. Code that walks through one recurses.
MAX_DEPTH = 100

_NUMERIC = re.compile(r'[biufcSU]\d{1,6}')


class RefusedFileError(UserError):
    """A file that is not read: it asks for code to be run, is damaged, or is of another kind."""


class Placeholder:
    """Stands for an object of a file. It keeps its arguments and state, and does nothing with them.

    Attributes:
        origin: Module and name of the class or function that it stands for.
        args: What the file would call it with.
        state: What the file would set as its state, or None.
    """

    origin = ''
    args: tuple
    state: Any

    def __new__(cls, *args: Any) -> Placeholder:
        """Keep the arguments."""
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _PlainDict:
    """Becomes a dict, since torch fills nothing else."""

    def __new__(cls, *args: Any) -> dict:  # type: ignore[misc]
        return {}


# torch looks an allowlisted class up by its module and its name, before 2.6 by the short one.
_PlainDict.__module__ = 'collections'
_PlainDict.__name__ = _PlainDict.__qualname__ = 'defaultdict'


def placeholder_class(origin: str) -> type | None:
    """The stand-in for a class or function, None for one that has no business beside weights.

    Args:
        origin: Its module and name, also as Python 2 called them.
    """
    module, _, name = origin.rpartition('.')
    if origin == 'collections.defaultdict':
        return _PlainDict
    if module == '__builtin__':
        module, name = 'builtins', dict(long='int', unicode='str').get(name, name)
    # torch before 2.6 does not know that it is harmless.
    if (module, name) == ('builtins', 'set'):
        return set
    if module == 'builtins':
        known = name in _BUILTINS
    else:
        known = any(f'{module}.'.startswith(f'{prefix}.') for prefix in _MODULES)
    return _make_class(module, name) if known else None


@functools.cache
def _make_class(module: str, name: str) -> type[Placeholder]:
    # torch looks an allowlisted class up by these two.
    return type(name, (Placeholder,), dict(__module__=module, origin=f'{module}.{name}'))


def forbidden(origin: str) -> str:
    """Why a file that names a class or function is refused."""
    return (
        f'it asks to call {origin}, which no weights need and which might do anything; nothing '
        'was run. Get the weights elsewhere, as safetensors if there is a choice'
    )


def placeholders_in(content: Any) -> set[str]:
    """Classes of which a file held objects that were not built, anywhere in what was read."""
    found, seen, waiting = set(), set(), [content]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        kind = node if isinstance(node, type) else type(node)
        if issubclass(kind, Placeholder):
            found.add(kind.origin)
        elif isinstance(node, dict):
            waiting += [*node, *node.values()]
        elif isinstance(node, (list, tuple, set, frozenset)):
            waiting += node
    return found


def build_numbers(content: Any) -> Any:
    """Build NumPy's numbers and arrays and mmengine's logged numbers from their placeholders.

    NumPy's own unpickling is not used: it makes arrays of pointers from given bytes. An array is
    built from its bytes, if its type is numeric or a text of fixed length. Other placeholders stay.

    Args:
        content: What a file holds; containers are changed in place.

    Raises:
        RefusedFileError: If it is nested too deeply.
        ValueError: If the bytes of an array do not fit its shape or its type.
    """
    # Each original is kept, so that no other object gets its id.
    done: dict[int, tuple[Any, Any]] = {}

    def build(node: Any, depth: int) -> Any:
        if not isinstance(node, (dict, list, tuple, set, frozenset, Placeholder)):
            return node
        if id(node) in done:
            return done[id(node)][1]
        if depth > MAX_DEPTH:
            raise RefusedFileError(f'it is nested more than {MAX_DEPTH} levels deep')
        done[id(node)] = node, node
        inner = functools.partial(build, depth=depth + 1)
        built = node
        if isinstance(node, dict):
            items = list(node.items())
            node.clear()
            for key, value in items:  # the update of a Counter would add
                node[inner(key)] = inner(value)
        elif isinstance(node, list):
            node[:] = map(inner, node)
        elif isinstance(node, Placeholder):
            if node.origin in _BUILDERS:
                built = _BUILDERS[node.origin](node, inner)
        elif type(node) in (tuple, set, frozenset):
            built = type(node)(map(inner, node))
        done[id(node)] = node, built
        return built

    return build(content, 0)


def _dtype(node: Any) -> np.dtype | None:
    """A type without pointers; None for another."""
    if not isinstance(node, Placeholder) or node.origin != 'numpy.dtype':
        return None
    name = node.args[0]
    if not isinstance(name, str) or not _NUMERIC.fullmatch(name):
        return None
    return np.dtype(name).newbyteorder(node.state[1] if node.state else '=')


def _array(node: Placeholder, inner: Callable) -> Any:
    if not isinstance(node.state, tuple) or len(node.state) != 5:
        return node
    _, shape, dtype, fortran, data = node.state
    dtype, data = _dtype(dtype), inner(data)
    if dtype is None or not isinstance(data, bytes):
        return node
    # A bytearray, so that the array can be written to.
    flat = np.frombuffer(bytearray(data), dtype) if data else np.empty(0, dtype)
    return flat.reshape(shape, order='F' if fortran else 'C')


def _scalar(node: Placeholder, inner: Callable) -> Any:
    dtype, data = _dtype(node.args[0]), inner(node.args[-1])
    if dtype is None or not isinstance(data, bytes):
        return node
    return np.frombuffer(data, dtype)[0]


def _logged_numbers(node: Placeholder, inner: Callable) -> Any:
    # The state also names functions, the statistics, which the class has anyway.
    log, count = (inner(node.state[f'_{name}_history']) for name in ('log', 'count'))
    if not (isinstance(log, np.ndarray) and isinstance(count, np.ndarray)):
        return node
    return HistoryBuffer(log, count, int(node.state['max_length']))


_BUILDERS: dict[str, Callable[[Placeholder, Callable], Any]] = {
    # NumPy 2 has moved what pickles of both versions name.
    'numpy.core.multiarray._reconstruct': _array,
    'numpy._core.multiarray._reconstruct': _array,
    'numpy.core.multiarray.scalar': _scalar,
    'numpy._core.multiarray.scalar': _scalar,
    'mmengine.logging.history_buffer.HistoryBuffer': _logged_numbers,
    # What pickles of protocol 2 name for an empty one.
    'builtins.bytes': lambda node, inner: b'' if not node.args else node,
    'builtins.frozenset': lambda node, inner: frozenset(*inner(node.args)),
    'builtins.slice': lambda node, inner: slice(*inner(node.args)),
}
