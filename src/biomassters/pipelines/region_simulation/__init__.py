"""Region simulation: one seamless region, its year of images and its biomass."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
