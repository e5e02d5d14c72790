"""Acquisition: the real archive brought from where it is published."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
