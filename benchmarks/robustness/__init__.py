"""Trainings that are killed, fed damaged data, split over processes, or given odd image shapes."""
