"""A restricted unpickler for torch before 2.5; it goes with the support of those.

Such a torch takes no list of harmless classes, runs TorchScript archives even with
``weights_only=True``, and reads past the end of a tensor that is shorter than it should be.
"""

from __future__ import annotations

import collections
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar

import torch

from .inert import Placeholder, RefusedFileError, forbidden, placeholder_class


class InertUnpickler(pickle._Unpickler):
    """Builds containers, numbers and ``Placeholder`` alone.

    The unpickler is the one in Python, whose instructions can be replaced: keyword arguments and
    registered extensions are left out, and only placeholders and dicts get a state.
    """

    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    for _code in (pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4):
        del dispatch[_code[0]]

    def find_class(self, module: str, name: str) -> Any:
        """What a name of the pickle stands for; a ``RefusedFileError`` if it must not be there."""
        origin = f'{module}.{name}'
        found = _PARTS.get(origin) or placeholder_class(origin)
        if found is None:
            raise RefusedFileError(forbidden(origin))
        return found

    def load_build(self) -> None:
        """Set the state of the object on the stack, a placeholder or an ordered dict."""
        state = self.stack.pop()
        node = self.stack[-1]
        if isinstance(node, Placeholder):
            node.__setstate__(state)
        elif type(node) is collections.OrderedDict and type(state) is dict:
            node.__dict__.update(state)
        else:
            raise pickle.UnpicklingError(f'it sets the state of a {type(node).__name__}')

    dispatch[pickle.BUILD[0]] = load_build


class _TensorUnpickler(InertUnpickler):
    """Builds tensors too; ``read`` gives the bytes of a storage by its key and its size."""

    def __init__(self, file: IO[bytes], read: Callable[[str, int], bytearray]) -> None:
        super().__init__(file, encoding='utf-8')
        self._read = read
        self._storages: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == 'torch' and name.endswith('Storage') and name != 'UntypedStorage':
            return torch.serialization.StorageType(name)
        if module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return super().find_class(module, name)

    def persistent_load(self, saved: Any) -> Any:
        """A storage on the CPU, of exactly the bytes that the file has for it."""
        what, kind, key, _, numel, *view = saved
        if what != 'storage' or any(view) or not isinstance(kind, torch.serialization.StorageType):
            raise pickle.UnpicklingError(f'it refers to {what!r}, which is no storage of a tensor')
        if key not in self._storages:
            data = self._read(str(key), numel * torch.empty(0, dtype=kind.dtype).element_size())
            # torch makes no tensor of nothing.
            whole = torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0)
            self._storages[key] = torch.storage.TypedStorage(
                wrap_storage=whole.untyped_storage(), dtype=kind.dtype, _internal=True
            )
        return self._storages[key]


def read_archive(path: Path) -> Any:
    """Read a zip archive of ``torch.save``, without torch."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('/data.pkl'))
        folder = name[: -len('data.pkl')]
        if f'{folder}byteorder' in archive.namelist():
            if archive.read(f'{folder}byteorder') != b'little':
                raise ValueError('it is of a machine with another order of bytes')

        def read(key: str, size: int) -> bytearray:
            data = bytearray(archive.read(f'{folder}data/{key}'))
            if len(data) != size:
                raise ValueError(f'tensor {key} has {len(data)} bytes, not the {size} it should')
            return data

        with archive.open(name) as file:
            return _TensorUnpickler(file, read).load()


def read_stream(path: Path) -> Any:
    """Read a file as ``torch.save`` wrote it before torch 1.6, without torch."""
    buffers: dict[str, bytearray] = {}

    def allocate(key: str, size: int) -> bytearray:
        if not 0 <= size <= path.stat().st_size:
            raise ValueError(f'tensor {key} should have {size} bytes, more than the file')
        return buffers.setdefault(key, bytearray(size))

    with path.open('rb') as file:
        for _ in ('magic number', 'version', 'machine'):
            InertUnpickler(file).load()
        content = _TensorUnpickler(file, allocate).load()
        for key in InertUnpickler(file).load():
            # The number of elements.
            file.read(8)
            if file.readinto(buffers[key]) != len(buffers[key]):
                raise EOFError('it ends within a tensor')
    return content


_PARTS: dict[str, Any] = {
    'collections.OrderedDict': collections.OrderedDict,
    'collections.Counter': collections.Counter,
    'builtins.set': set,
    '__builtin__.set': set,
    # How pickles of protocol 2 write bytes.
    '_codecs.encode': lambda text, encoding: text.encode('latin1'),
    'torch.Size': torch.Size,
    'torch.device': torch.device,
    'torch._utils._rebuild_parameter': torch._utils._rebuild_parameter,
    'torch._utils._rebuild_tensor': torch._utils._rebuild_tensor,
    'torch._utils._rebuild_tensor_v2': torch._utils._rebuild_tensor_v2,
}
