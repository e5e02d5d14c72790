"""Imagery: an area and a year → scenes found, chosen and composed to a cube of twelve months."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
