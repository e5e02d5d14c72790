"""Inference: weights and chip store → predicted maps of held-out and test chips."""

from .pipeline import create_pipeline

__all__ = ["create_pipeline"]
