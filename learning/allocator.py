"""What one step of a network frees, the next one needs again: the process keeps it instead of giving it back to the system.

The GNU C library returns free memory at the end of its heap once that is more than a little (at most 64 MiB), and the system
then hands it out again page by page, filled with zeros. A pass of Prophet over 16 clips frees and asks for 200 MiB, and spent a
fifth of its time on that (training does not: gradients and moments keep the end of the heap occupied).
"""

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT_BYTES = 512 << 20  # of free memory, at most
OWN_PAGES_BYTES = 32 << 20  # larger pieces are still given back one by one; the largest value that every glibc takes


def keep_freed_memory() -> bool:
    """Keep up to ``KEPT_BYTES`` of freed memory in this process from now on; changes no result.

    Returns:
        Whether the C library knows how; others (macOS, musl) go on as they were.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Both, for either one ends glibc's own adjustment of the other.
    return bool(mallopt(MMAP_THRESHOLD, OWN_PAGES_BYTES)) and bool(mallopt(TRIM_THRESHOLD, KEPT_BYTES))
