"""Audits the data before a training, and refuses those that are unusable."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmpvg.datasets.checks.audit import audit
from mmpvg.datasets.checks.finding import EFFECTS, summarize_findings
from mmpvg.utils.errors import UserError


class UnusableDataError(UserError):
    """Data that are not worth training on."""


def audit_data(runner: Runner, cfg: Config, splits: Sequence[str]) -> None:
    """Audit the data of a run, in its first process, and log what was found.

    Args:
        runner: Of the run, before training.
        cfg: Its config.
        splits: Splits that are read in training: ``train``, and ``val``.

    Raises:
        UnusableDataError: If training would stop at the data, or go on to a senseless result.
    """
    if runner.rank != 0:
        return
    try:
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
            audits = list(audit(cfg, splits))
    except Exception as error:  # of the audit itself, which stops no training
        runner.logger.warning(f'The data were not audited: {type(error).__name__}: {error}')
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
