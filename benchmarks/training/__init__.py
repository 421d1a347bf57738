"""Small trainings of several configs and seeds, summarized in one table."""
