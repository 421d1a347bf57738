"""Computing what can be learnt about models; drawing it stands apart, in mmpvg.visualization."""

from .benchmark import MODES, Timing, peak_memory, run_of, time_alternately
from .benchmark_models import BENCHMARK_MODELS, BenchmarkModel, difference_to_ours
from .benchmark_targets import TARGETS, Measured, Target, import_seconds, measure_targets
from .candidates import Candidate, load_candidates, same_test_set
from .classification_study import Result, StudyRun, plan_study, run_study, summarize
from .comparison import Comparison, ImagePair, Pair, compare
from .counterbalance import Counterbalance, LastNorm, measure_counterbalance, pearson
from .damage_study import DamageResult, run_damage_study
from .delivery_study import DELIVERY_NUMBERS, describe_delivery, mean_and_spread
from .field_study import MeasuredField, measure_fields, places_of, states_of
from .floor import MachineRates, measure_rates, moved_bytes
from .flops import PartCost, count_macs, part_costs
from .gaussian_fit import GaussianFit, field_spread, fit_gaussian
from .image_scores import ImageScore, image_score, instance_f1, mean_iou
from .inspection import (
    InspectedModel,
    NetworkRecord,
    find_vit,
    image_files,
    open_model,
    record_network,
)
from .iteration_split import PARTS as ITERATION_PARTS
from .iteration_split import split_iteration
from .kill_study import Outcome, Trial, plan_kills, run_kill_study
from .pe_similarity import (
    ResizeDistortion,
    cosine_similarity,
    delivered_tables,
    neighbour_contrast,
    resize_distortions,
    similarity_mosaic,
)
from .process_study import (
    FsdpResult,
    gradients_of_processes,
    largest_difference,
    run_fsdp_study,
)
from .receptive_field import (
    PE_STATES,
    LearntGaussian,
    accumulate_fields,
    centre_features,
    centre_token,
    learnt_gaussians,
    pe_state,
    share_outside,
)
from .run_logs import Curve, read_run_logs
from .schedule import LearningRateCurve, learning_rate_curve
from .shape_study import ShapeResult, random_shapes, run_shape_study
from .trainings import Training, run_trainings

__all__ = [
    'BENCHMARK_MODELS',
    'BenchmarkModel',
    'Candidate',
    'Comparison',
    'Counterbalance',
    'Curve',
    'DELIVERY_NUMBERS',
    'DamageResult',
    'FsdpResult',
    'GaussianFit',
    'ITERATION_PARTS',
    'ImagePair',
    'ImageScore',
    'InspectedModel',
    'LastNorm',
    'LearningRateCurve',
    'LearntGaussian',
    'MODES',
    'MachineRates',
    'Measured',
    'MeasuredField',
    'NetworkRecord',
    'Outcome',
    'PE_STATES',
    'Pair',
    'PartCost',
    'ResizeDistortion',
    'Result',
    'ShapeResult',
    'StudyRun',
    'TARGETS',
    'Target',
    'Timing',
    'Training',
    'Trial',
    'accumulate_fields',
    'centre_features',
    'centre_token',
    'compare',
    'cosine_similarity',
    'count_macs',
    'delivered_tables',
    'describe_delivery',
    'difference_to_ours',
    'field_spread',
    'find_vit',
    'fit_gaussian',
    'gradients_of_processes',
    'image_files',
    'image_score',
    'import_seconds',
    'instance_f1',
    'largest_difference',
    'learning_rate_curve',
    'learnt_gaussians',
    'load_candidates',
    'mean_and_spread',
    'mean_iou',
    'measure_counterbalance',
    'measure_fields',
    'measure_rates',
    'measure_targets',
    'moved_bytes',
    'neighbour_contrast',
    'open_model',
    'part_costs',
    'pe_state',
    'peak_memory',
    'pearson',
    'places_of',
    'plan_kills',
    'plan_study',
    'random_shapes',
    'read_run_logs',
    'record_network',
    'resize_distortions',
    'run_damage_study',
    'run_fsdp_study',
    'run_kill_study',
    'run_of',
    'run_shape_study',
    'run_study',
    'run_trainings',
    'same_test_set',
    'share_outside',
    'similarity_mosaic',
    'split_iteration',
    'states_of',
    'summarize',
    'time_alternately',
]
