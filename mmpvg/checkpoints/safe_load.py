"""Reading ``.pth`` files of strangers without ever running what they hold."""

from __future__ import annotations

import codecs
import collections
import functools
import pickle
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

# Packages whose objects stand beside the weights in well-known checkpoints (arguments, configs,
# logged numbers). None of them is imported or called: placeholders take their place.
_BESIDE_WEIGHTS = ('argparse', 'collections', 'mmcv', 'mmengine', 'numpy', 'omegaconf', 'pathlib')

# Functions that those objects name in their pickles.
_BESIDE_FUNCTIONS = {
    ('__builtin__', 'getattr'),
    ('builtins', 'getattr'),
    ('_codecs', 'encode'),
}

_TENSOR_PARTS = {
    ('collections', 'OrderedDict'): collections.OrderedDict,
    ('torch', 'Size'): torch.Size,
    ('torch', 'device'): torch.device,
    ('torch._utils', '_rebuild_parameter'): torch._utils._rebuild_parameter,
    ('torch._utils', '_rebuild_tensor'): torch._utils._rebuild_tensor,
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
}


class RefusedFileError(ValueError):
    """A file that names code which no weights need; the code has not run."""


class Placeholder:
    """Stands for an object that is not a weight; takes any arguments and state and does nothing.

    Attributes:
        origin: Module and name of the class that it stands for.
    """

    origin = ''

    def __new__(cls, *args, **kwargs) -> Placeholder:
        """Make an empty object."""
        return super().__new__(cls)

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        """Ignore an item, as of a pickled list."""

    def extend(self, items: Any) -> None:
        """Ignore items, as of a pickled list."""


@functools.cache
def _placeholder(origin: str) -> type[Placeholder]:
    return type('Placeholder', (Placeholder,), dict(origin=origin))


def placeholders_in(node: Any) -> set[str]:
    """Classes of which a file held objects that were not built, anywhere in what was read."""
    if isinstance(node, Placeholder):
        return {node.origin}
    if isinstance(node, type) and issubclass(node, Placeholder):
        return {node.origin}
    if isinstance(node, dict):
        return set().union(*(placeholders_in(child) for pair in node.items() for child in pair))
    if isinstance(node, (list, tuple, set, frozenset)):
        return set().union(*map(placeholders_in, node))
    return set()


class _WeightsUnpickler(pickle.Unpickler):
    """Builds tensors and containers, and placeholders for what often stands beside weights."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _TENSOR_PARTS:
            return _TENSOR_PARTS[module, name]
        if module in ('torch', 'torch.storage') and name.endswith('Storage') and '.' not in name:
            return getattr(torch, name, None) or getattr(torch.storage, name)
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module.split('.')[0] in _BESIDE_WEIGHTS or (module, name) in _BESIDE_FUNCTIONS:
            return _placeholder(f'{module}.{name}')
        raise RefusedFileError(
            f'it asks to call {module}.{name}, which no weights need and which might do anything; '
            'nothing was run. Get the weights elsewhere, as safetensors if there is a choice'
        )


_RUN_PARTS = {
    ('_codecs', 'encode'): codecs.encode,
    # A scheduler's milestones, for one.
    ('collections', 'Counter'): collections.Counter,
    ('collections', 'deque'): collections.deque,
    # As Python 2 called them, and pickles of protocol 2 do.
    ('__builtin__', 'set'): set,
    ('__builtin__', 'frozenset'): frozenset,
    ('builtins', 'set'): set,
    ('builtins', 'frozenset'): frozenset,
}


class _RunUnpickler(_WeightsUnpickler):
    """Builds what a training needs to go on too: logged numbers, as mmengine keeps them."""

    def find_class(self, module: str, name: str) -> Any:
        # NumPy 2 has moved what the pickles of both versions name.
        if module in ('numpy.core.multiarray', 'numpy._core.multiarray'):
            if name in ('_reconstruct', 'scalar'):
                return getattr(_numpy_multiarray(), name)
        if (module, name) in (('numpy', 'ndarray'), ('numpy', 'dtype')):
            return getattr(np, name)
        if (module, name) in _RUN_PARTS:
            return _RUN_PARTS[module, name]
        if (module, name) == ('mmengine.logging.history_buffer', 'HistoryBuffer'):
            return _LoggedNumbers
        return super().find_class(module, name)


class _LoggedNumbers(HistoryBuffer):
    """Becomes a HistoryBuffer with the numbers of its state, but not with the functions there."""

    def __setstate__(self, state: dict) -> None:
        for name in ('max_length', '_log_history', '_count_history'):
            setattr(self, name, state[name])
        self.__class__ = HistoryBuffer


def _numpy_multiarray() -> types.ModuleType:
    # NumPy 1.26 has a _core too, an empty one.
    return (np._core if np.lib.NumpyVersion(np.__version__) >= '2.0.0' else np.core).multiarray


def _pickle_module(unpickler: type[pickle.Unpickler]) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        __name__='mmpvg.checkpoints.safe_load',
        Unpickler=unpickler,
        UnpicklingError=pickle.UnpicklingError,
        load=lambda file, **kwargs: unpickler(file, **kwargs).load(),
    )


def load_pth(path: str | Path, run_state: bool = False) -> Any:
    """Read a ``.pth`` file; no code in it runs.

    First with ``weights_only=True``. What that refuses is read once more by an unpickler that
    builds tensors and containers alone: the checkpoints of OpenMMLab hold logged numbers beside the
    weights, those of MAE and timm their arguments. Such objects become :class:`Placeholder`.

    Args:
        path: The file.
        run_state: Also build the logged numbers of mmengine, with which a training goes on.

    Returns:
        What the file holds, on the CPU.

    Raises:
        RefusedFileError: If the file names anything else, or is a TorchScript program.
        ValueError: If the file is truncated or not a checkpoint.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(name.endswith('/constants.pkl') for name in archive.namelist()):
                raise RefusedFileError(
                    f'cannot read {path}: it is a TorchScript program, not weights; save the '
                    'state_dict() of the model instead'
                )
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise
    except Exception:  # torch raises many kinds; the second reading tells what it is
        pass
    try:
        # Not unsafe: these unpicklers can call nothing but what builds tensors and numbers.
        module = _pickle_module(_RunUnpickler if run_state else _WeightsUnpickler)
        return torch.load(path, map_location='cpu', pickle_module=module, weights_only=False)
    except RefusedFileError as error:
        raise RefusedFileError(f'cannot read {path}: {error}') from None
    except Exception as error:
        size = Path(path).stat().st_size
        raise ValueError(
            f'cannot read {path} ({size} bytes): it is truncated or no checkpoint of torch; '
            f'download it again ({type(error).__name__}: {str(error).splitlines()[0][:120]})'
        ) from error
