"""Scoring: maps of the test split and its labels → the challenge's score."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
