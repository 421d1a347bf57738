"""Reads, checks and adapts configs before a run is built."""
