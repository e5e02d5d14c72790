"""Training: chip store and folds → weights and learning curves."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
