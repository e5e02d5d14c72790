"""Reporting: predictions and labels → scores, baselines, pictures and the report."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
