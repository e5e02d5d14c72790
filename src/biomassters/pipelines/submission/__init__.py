"""Submission: predicted maps of the test split → one checked archive."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
