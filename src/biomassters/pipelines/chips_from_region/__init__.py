"""Chips from a region: images of a region and labels of a part of it → a raw archive."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
