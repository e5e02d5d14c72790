"""Training: chip store and folds → weights and learning curve."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
