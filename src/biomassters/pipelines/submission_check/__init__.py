"""Submission check: an archive made by anyone → what is wrong with it."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
