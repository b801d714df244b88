"""Memory that a run gives back to itself instead of to the system."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep() -> bool:
    """Keep freed memory in this process, for the next array of its size; whether that was possible (glibc only).

    By default the C library returns every large array to the system, which hands it out again page by page and zeroed:
    a training step, whose arrays are the same every time, spends a tenth of its time on that. For processes of our
    own, like the command line's: the setting is the whole process's.

    >>> keep() in (True, False)
    True
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
