"""Measures this repository; not installed. Run as a module, from the root of the repository."""
