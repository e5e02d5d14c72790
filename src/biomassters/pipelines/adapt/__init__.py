"""Adapt: weights and an archive with a few labelled chips → weights of that place."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
