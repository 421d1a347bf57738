"""Audits the data while a training starts, and stops it if they are unusable."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from mmpvg.datasets.checks.audit import audit
from mmpvg.datasets.checks.finding import EFFECTS, summarize_findings
from mmpvg.utils.errors import UserError


class UnusableDataError(UserError):
    """Data that are not worth training on."""


@contextmanager
def audited(runner: Runner, cfg: Config, splits: Sequence[str]) -> Iterator[None]:
    """Audit the data of a run in another process, while the run builds its data sets.

    The first process of a run does it for all.

    Args:
        runner: Of the run, before training.
        cfg: Its config.
        splits: What is read in training: ``train``, and ``val``.

    Raises:
        UnusableDataError: If training would stop at the data, or go on to a senseless result.
    """
    if runner.rank != 0:
        yield
        return
    receiver, sender = multiprocessing.Pipe(duplex=False)
    ends = (receiver, sender)
    process = multiprocessing.Process(target=_audit, args=(*ends, cfg, splits), daemon=True)
    process.start()
    # Only the other process holds it now, so that its end is noticed.
    sender.close()
    report = _AuditReport(receiver, process)
    runner.register_hook(report, 'HIGHEST')
    try:
        yield
    except Exception as error:
        if not report.done:
            try:
                report.before_run(runner)
            except UnusableDataError as unusable:
                raise unusable from error
        raise
    finally:
        process.kill()
        process.join()


class _AuditReport(Hook):
    """Logs what an audit found, before the first iteration."""

    def __init__(self, receiver: Connection, process: multiprocessing.Process) -> None:
        self.receiver, self.process = receiver, process
        self.done = False

    def before_run(self, runner: Runner) -> None:
        """Wait for the audit, log it, and stop if the data are unusable."""
        self.done = True
        try:
            audits = self.receiver.recv()
        except EOFError:
            audits = RuntimeError('its process was killed, perhaps out of memory')
        self.process.join()
        if isinstance(audits, Exception):
            runner.logger.warning(f'The data were not audited: {audits}')
            return
        for result in audits:
            if result.images:
                runner.logger.info(result.describe_counts())
        fatal = [finding for result in audits for finding in result.fatal]
        if fatal:
            lines = '\n'.join(
                f'- {problem} ({EFFECTS[effect]}): {example}'
                for problem, effect, _, _, example in summarize_findings(fatal)
            )
            raise UnusableDataError(
                f'the data are not worth training on:\n{lines}\n'
                'tools/misc/check_dataset.py lists all findings; --no-audit trains anyway'
            )
        wrong = [finding for result in audits for finding in result.wrong]
        for problem, effect, number, _, example in summarize_findings(wrong):
            runner.logger.warning(
                f'Data: {problem}, {number} times ({EFFECTS[effect]}), such as {example}'
            )


def _audit(receiver: Connection, sender: Connection, cfg: Config, splits: Sequence[str]) -> None:
    # Otherwise a report to a training that has died would wait forever.
    receiver.close()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Not the handlers of the training, which saves a checkpoint at SIGTERM.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    init_default_scope(cfg.get('default_scope') or 'mmengine')
    try:
        sender.send(list(audit(cfg, splits)))
    except Exception as error:  # of the audit itself, which stops no training
        sender.send(RuntimeError(f'{type(error).__name__}: {error}'))


def _end_with_parent() -> None:
    # A training that is killed, or exits at once on a signal, does not end its children.
    multiprocessing.parent_process().join()
    os._exit(1)
