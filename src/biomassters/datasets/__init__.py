"""Kedro dataset classes: formats only, no scaling, no splits."""
