"""Computing what can be learnt about models; drawing it stands apart, in mmpvg.visualization."""

from .benchmark import MODES, Timing, peak_memory, run_of, time_alternately
from .benchmark_models import BENCHMARK_MODELS, BenchmarkModel, difference_to_ours
from .benchmark_targets import TARGETS, Measured, Target, import_seconds, measure_targets
from .classification_study import Result, StudyRun, plan_study, run_study, summarize
from .damage_study import DamageResult, run_damage_study
from .floor import MachineRates, measure_rates, moved_bytes
from .flops import PartCost, count_macs, part_costs
from .iteration_split import PARTS as ITERATION_PARTS
from .iteration_split import split_iteration
from .kill_study import Outcome, Trial, plan_kills, run_kill_study
from .process_study import (
    FsdpResult,
    gradients_of_processes,
    largest_difference,
    run_fsdp_study,
)
from .run_logs import Curve, read_run_logs
from .schedule import LearningRateCurve, learning_rate_curve
from .shape_study import ShapeResult, random_shapes, run_shape_study

__all__ = [
    'BENCHMARK_MODELS',
    'BenchmarkModel',
    'Curve',
    'DamageResult',
    'FsdpResult',
    'ITERATION_PARTS',
    'LearningRateCurve',
    'MODES',
    'MachineRates',
    'Measured',
    'Outcome',
    'PartCost',
    'Result',
    'ShapeResult',
    'StudyRun',
    'TARGETS',
    'Target',
    'Timing',
    'Trial',
    'count_macs',
    'difference_to_ours',
    'gradients_of_processes',
    'import_seconds',
    'largest_difference',
    'learning_rate_curve',
    'measure_rates',
    'measure_targets',
    'moved_bytes',
    'part_costs',
    'peak_memory',
    'plan_kills',
    'plan_study',
    'random_shapes',
    'read_run_logs',
    'run_damage_study',
    'run_fsdp_study',
    'run_kill_study',
    'run_of',
    'run_shape_study',
    'run_study',
    'split_iteration',
    'summarize',
    'time_alternately',
]
