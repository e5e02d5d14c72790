"""Plots: field plots and a map, or covariates in tables → validation and totals."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
