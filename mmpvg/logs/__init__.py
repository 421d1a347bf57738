"""Training curves of past runs, and learning-rate schedules of configs."""
