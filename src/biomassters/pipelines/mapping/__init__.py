"""Mapping: a year of images of a region and weights → one map, with what belongs to it."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
