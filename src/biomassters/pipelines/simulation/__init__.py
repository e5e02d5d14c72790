"""Simulation: a forest, its year of images and its biomass, written as a raw archive."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
