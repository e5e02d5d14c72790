"""Sweep: trainings with parameters that a study chooses, and what it learnt of them."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
