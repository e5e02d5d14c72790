"""Memory that was freed goes back to the system: a large map takes no more than a small one."""

import ctypes


def return_freed_memory() -> None:
    """Give back what glibc's malloc keeps; on other systems nothing.

    It keeps free pieces between those in use, more of them with every block: the memory of the
    process would grow with the map though nothing holds it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
