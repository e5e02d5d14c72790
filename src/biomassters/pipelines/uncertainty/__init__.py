"""Uncertainty: held-out predictions and labels → intervals, maps with bounds."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
