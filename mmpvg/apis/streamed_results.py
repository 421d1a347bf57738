"""Writes predictions of a test run to a pickle file without holding them in memory."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice, zip_longest
from pathlib import Path
from typing import IO, Any

from mmengine.dist import all_gather_object, is_main_process
from mmengine.evaluator import DumpResults
from mmengine.logging import print_log

from mmpvg.utils.whole_file import whole_file

# Results of a process that are exchanged at a time.
_CHUNK = 16
# The newest protocol whose memo is numbered in the file, so that pickles can be joined.
_PROTOCOL = 3
_NONE_LEFT = object()


class _Streamed:
    """Keeps what a ``DumpResults`` collects in a temporary file beside the output.

    mmengine holds the results of all processes in the memory of the first, twice. The file is the
    same: a pickled list of all results, in the order of the data set.
    """

    def __init__(self, out_file_path: str, **kwargs: Any) -> None:
        super().__init__(out_file_path=out_file_path, **kwargs)
        folder = Path(out_file_path).parent
        folder.mkdir(parents=True, exist_ok=True)
        # Has no name, and ends with the process.
        self._spool = tempfile.TemporaryFile(dir=folder)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Take the results of a batch."""
        super().process(data_batch, data_samples)
        for result in self.results:
            pickle.dump(result, self._spool, _PROTOCOL)
        self.results.clear()

    def evaluate(self, size: int) -> dict:
        """Write the file.

        Args:
            size: Length of the data set; samplers may have repeated some samples at its end.
        """
        if is_main_process():
            # To the end, which the other processes wait for.
            results = (result for number, result in enumerate(self._in_order()) if number < size)
            with whole_file(self.out_file_path) as part, part.open('wb') as file:
                write_list(results, file)
            print_log(f'Results have been saved to {self.out_file_path}.', logger='current')
        else:
            for _ in self._in_order():
                pass
        self._spool.seek(0)
        self._spool.truncate()
        return {}

    def _in_order(self) -> Iterator[Any]:
        """The results of all processes, of which each has every n-th."""
        own = _load_all(self._spool)
        while any(chunks := all_gather_object(list(islice(own, _CHUNK)))):
            for group in zip_longest(*chunks, fillvalue=_NONE_LEFT):
                yield from (result for result in group if result is not _NONE_LEFT)


def streamed(metric: type[DumpResults]) -> type[DumpResults]:
    """A subclass of a ``DumpResults`` class that keeps the results on the disk."""
    return type(f'Streamed{metric.__name__}', (_Streamed, metric), {})


def write_list(items: Iterator[Any], file: IO[bytes]) -> None:
    """Pickle a list item by item; ``pickle.load`` reads it as any other."""
    file.write(pickle.PROTO + bytes([_PROTOCOL]) + pickle.EMPTY_LIST)
    for item in items:
        # Without the head and the end of a pickle of its own.
        file.write(pickle.dumps(item, _PROTOCOL)[2:-1] + pickle.APPEND)
    file.write(pickle.STOP)


def _load_all(file: IO[bytes]) -> Iterator[Any]:
    end = file.tell()
    file.seek(0)
    while file.tell() < end:
        yield pickle.load(file)
