"""Real check: weights and a labelled archive that they never saw → how wrong their maps are."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
