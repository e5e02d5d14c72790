"""Change: two maps with intervals of one grid → gain and loss."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
