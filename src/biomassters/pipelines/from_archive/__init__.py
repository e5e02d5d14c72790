"""Everything after the raw archive: data engineering to submission and report."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
