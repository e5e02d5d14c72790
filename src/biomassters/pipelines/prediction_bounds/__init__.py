"""Prediction bounds: maps of any archive + calibrated intervals → maps with bounds."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
