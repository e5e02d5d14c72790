"""Who does work that falls apart into items: this process's threads, or Dask's workers.

An item is a chip, or a block of a region. A task is called once for each, reads and writes its
files itself and returns something small. Begin with ``pool.py``.
"""
