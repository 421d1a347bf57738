"""Pictures of results."""

from .benchmark_plot import draw_benchmark
from .finding_sheet import draw_findings
from .log_plot import draw_run_logs
from .prediction_sheet import draw_prediction_sheet
from .schedule_plot import draw_schedules
from .study_plot import draw_study

__all__ = [
    'draw_benchmark',
    'draw_findings',
    'draw_prediction_sheet',
    'draw_run_logs',
    'draw_schedules',
    'draw_study',
]
