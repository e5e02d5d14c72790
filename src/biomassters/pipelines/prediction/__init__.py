"""Prediction: weights and any raw archive → predicted maps."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
