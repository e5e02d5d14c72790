"""Tiny tensors."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _small_tensors(one_thread):
    """Tensors this small are slower on more threads."""
