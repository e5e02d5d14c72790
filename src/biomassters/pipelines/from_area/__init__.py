"""From an area and a year to a map: images out of a catalogue, mapped."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
