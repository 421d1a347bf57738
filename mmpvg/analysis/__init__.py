"""Computing what can be learnt about models; drawing it stands apart, in mmpvg.visualization."""

from .classification_study import Result, StudyRun, plan_study, run_study, summarize

__all__ = ['Result', 'StudyRun', 'plan_study', 'run_study', 'summarize']
