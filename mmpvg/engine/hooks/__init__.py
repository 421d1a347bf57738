"""Hooks of trainings and tests."""
