"""The report of a prediction run."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

from mmpvg.datasets.checked_loading import BrokenSampleError
from mmpvg.utils.whole_file import write_whole

# Files that a terminal shows; all are in report.json.
_SHOWN = 20


@dataclass
class PredictionReport:
    """The report of a prediction run.

    Attributes:
        source: The input.
        config: The config file.
        checkpoint: The weights.
        device: Device of the model.
        batch_size: Largest number of images in a batch.
        images: Images found, or the number of frames in the header of a video.
        predicted: Images whose prediction was written.
        detections: Detections written; None for a segmenter.
        failed: Images that could not be read, predicted or drawn, each with the reason.
        other_files: Files of the folder that are no images by their extension.
        not_annotated: Images that the annotation file does not have, left out.
        without_file: Images of the annotation file without a file.
        notes: Such as images that are not read as they are stored.
        interrupted: Whether Ctrl-C ended it.
        seconds: From the first image to the last, without building the model.
    """

    source: str
    config: str
    checkpoint: str
    device: str = ''
    batch_size: int = 1
    images: int = 0
    predicted: int = 0
    detections: int | None = None
    failed: list[dict[str, str]] = field(default_factory=list)
    other_files: int = 0
    not_annotated: int = 0
    without_file: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def start(self) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def fail(self, file_name: str, error: Exception, what: str = '') -> None:
        """Note an error of an image, with words before the reason."""
        reason = (str(error).strip().splitlines() or [''])[0]
        if not isinstance(error, BrokenSampleError):
            reason = f'{type(error).__name__}: {reason}'
        self.failed.append(dict(file=file_name, reason=what + reason))

    def write(self, path: Path) -> None:
        """Stop the clock and write ``report.json``."""
        # Of some videos it is not known before.
        self.images = self.images or self.predicted
        self.seconds = round(time.perf_counter() - self._started, 3)
        write_whole(path, json.dumps(dataclasses.asdict(self), indent=1) + '\n')

    def summary(self) -> str:
        """Make lines for a terminal."""
        lines = [f'predicted {self.predicted} of {self.images} images in {self.seconds:.1f} s']
        if self.interrupted:
            lines[0] += ', then interrupted'
        if self.detections is not None:
            lines[0] += f': {self.detections} detections'
        if self.other_files:
            lines.append(f'{self.other_files} other files of the folder are no images')
        if self.not_annotated:
            lines.append(f'{self.not_annotated} images are not in the annotation file: left out')
        if self.without_file:
            lines.append(_listed('images of the annotation file have no file', self.without_file))
        if self.failed:
            failed = [f'{failure["file"]}: {failure["reason"]}' for failure in self.failed]
            lines.append(_listed('failed', failed))
        if self.notes:
            lines.append(_listed('notes', self.notes))
        # Names of files may hold bytes that are no UTF-8, which not every terminal takes.
        return '\n'.join(lines).encode('utf-8', 'backslashreplace').decode()


def _listed(title: str, entries: list[str]) -> str:
    shown = entries[:_SHOWN]
    more = [f'... and {len(entries) - len(shown)} more: see report.json']
    rest = more if len(entries) > len(shown) else []
    return '\n  '.join([f'{len(entries)} {title}:', *shown, *rest])
