"""Scene simulation: the months of a simulated region as scenes, as a catalogue has them."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
