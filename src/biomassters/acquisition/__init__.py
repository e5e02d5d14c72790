"""Bring the raw archive: which files are wanted, where they come from, and that each is right.

Begin with ``acquire.py``.
"""
