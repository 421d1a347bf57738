"""Shows or writes the predictions of a test run, by task."""

from __future__ import annotations

from collections.abc import Callable

from mmengine.config import Config
from mmengine.evaluator import BaseMetric, DumpResults

from mmpvg.utils.errors import UserError

from .streamed_results import streamed
from .tta import evaluators


def show_predictions(cfg: Config, show: bool, folder: str | None, wait_time: float) -> None:
    """Draw the predictions of every test image.

    Args:
        cfg: The config of the run, changed in place.
        show: Whether they are shown in a window.
        folder: Folder for the pictures.
        wait_time: Seconds per shown picture.
    """
    hook = cfg.default_hooks.visualization
    hook.update(show=show, wait_time=wait_time)
    scope = cfg.get('default_scope')
    if scope == 'mmpretrain':
        hook.update(enable=True, interval=1, out_dir=folder)
        return
    hook.draw = True
    if folder and scope == 'mmdet':
        hook.test_out_dir = folder
    elif folder:
        cfg.visualizer.save_dir = folder
        # mmseg's hook would draw every 50th image.
        hook.setdefault('interval', 1)


def keep_predictions(cfg: Config, out: str) -> Callable[[], BaseMetric] | None:
    """Set up the writing of predictions.

    Args:
        cfg: The config of the run, changed in place.
        out: A folder for a segmenter's label maps, a ``.pkl`` file for all else.

    Returns:
        A function that makes the metric that writes them, to be called when the runner is there;
        None where the config's own metric does.

    Raises:
        UserError: If ``out`` does not suit the task.
    """
    scope = cfg.get('default_scope')
    if scope == 'mmseg':
        evaluators(cfg)[0].update(output_dir=out, keep_results=True)
        return None
    if not out.endswith(('.pkl', '.pickle')):
        raise UserError(f'--out of a detector or a classifier must end with .pkl, got {out}')

    def dump() -> BaseMetric:
        if scope == 'mmdet':
            from mmdet.evaluation import DumpDetResults

            return streamed(DumpDetResults)(out_file_path=out)
        return streamed(DumpResults)(out_file_path=out)

    return dump
