"""glibc's allocator, told to keep what training frees.

By default glibc returns every large block to the kernel and maps it afresh for the next step, and
page faults then cost more than the arithmetic (man 3 mallopt).
"""

import ctypes
import platform

_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> bool:
    """Serve large blocks from the heap and keep it; False where the C library is not glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    kept = library.mallopt(_M_MMAP_MAX, 0)
    return bool(kept and library.mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))
