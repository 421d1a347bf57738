"""Pictures of results."""

from .benchmark_plot import draw_benchmark
from .comparison_page import write_comparison_page
from .counterbalance_plot import draw_counterbalance, draw_embedding_maps, draw_last_norms
from .finding_sheet import draw_findings
from .log_plot import draw_run_logs
from .pe_similarity_plot import draw_distortions, draw_mosaics
from .prediction_sheet import draw_prediction_sheet
from .receptive_field_plot import draw_field_curves, draw_fields
from .schedule_plot import draw_schedules
from .study_plot import draw_study

__all__ = [
    'draw_benchmark',
    'draw_counterbalance',
    'draw_distortions',
    'draw_embedding_maps',
    'draw_field_curves',
    'draw_fields',
    'draw_findings',
    'draw_last_norms',
    'draw_mosaics',
    'draw_prediction_sheet',
    'draw_run_logs',
    'draw_schedules',
    'draw_study',
    'write_comparison_page',
]
