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
    'gradients_of_processes',
    'count_macs',
    'StudyRun',
    'DamageResult',
    'Result',
    'ShapeResult',
    'run_shape_study',
    'random_shapes',
    'Target',
    'Outcome',
    'plan_study',
    'largest_difference',
    'run_damage_study',
    'plan_kills',
    'BenchmarkModel',
    'measure_targets',
    'run_kill_study',
    'TARGETS',
    'MODES',
    'run_study',
    'Timing',
    'PartCost',
    'BENCHMARK_MODELS',
    'summarize',
    'MachineRates',
    'Measured',
    'measure_rates',
    'moved_bytes',
    'import_seconds',
    'time_alternately',
    'run_of',
    'LearningRateCurve',
    'difference_to_ours',
    'peak_memory',
    'run_fsdp_study',
    'learning_rate_curve',
    'Curve',
    'FsdpResult',
    'read_run_logs',
    'ITERATION_PARTS',
    'split_iteration',
    'Trial',
    'part_costs',
]
