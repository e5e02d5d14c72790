"""Who does the work that falls apart into chips: this process's threads, or Dask's workers.

A task is called once a chip, reads and writes its files itself and returns something small.
"""
