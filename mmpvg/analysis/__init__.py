"""Computing what can be learnt about models; drawing it stands apart, in mmpvg.visualization."""

from .classification_study import Result, StudyRun, plan_study, run_study, summarize
from .damage_study import DamageResult, run_damage_study
from .flops import PartCost, count_macs, part_costs
from .kill_study import Outcome, Trial, plan_kills, run_kill_study
from .schedule import LearningRateCurve, learning_rate_curve
from .shape_study import ShapeResult, random_shapes, run_shape_study

__all__ = [
    'DamageResult',
    'LearningRateCurve',
    'Outcome',
    'PartCost',
    'Result',
    'ShapeResult',
    'StudyRun',
    'Trial',
    'count_macs',
    'learning_rate_curve',
    'part_costs',
    'plan_kills',
    'plan_study',
    'random_shapes',
    'run_damage_study',
    'run_kill_study',
    'run_shape_study',
    'run_study',
    'summarize',
]
