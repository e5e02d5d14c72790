"""Data engineering: raw archive → chip table, statistics, scaling, folds, chip store."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
