"""The sample data set, loading that checks its images, and the audit of data sets."""
