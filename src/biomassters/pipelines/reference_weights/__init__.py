"""Reference weights: the challenge winner's checkpoint → weights of this project."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
