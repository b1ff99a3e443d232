"""Settings of a process that trains: what suits many small products and large, short-lived blocks.

By default glibc returns every large block to the kernel and maps it afresh for the next step, and
page faults then cost a tenth of the time (man 3 mallopt). A second thread slows products this
small down, and up to ten times where something else runs.
"""

import ctypes
import platform

import torch

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def tune_process() -> None:
    """Train with one thread and keep freed memory; called once, by whoever owns the process."""
    torch.set_num_threads(1)
    keep_freed_memory()


def keep_freed_memory() -> bool:
    """Serve large blocks from the heap and keep it; False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    kept = library.mallopt(_M_MMAP_MAX, 0)
    return bool(kept and library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))
