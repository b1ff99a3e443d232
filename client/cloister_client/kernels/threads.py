"""Work shared out to as many threads as torch may use: kernels hold no lock of the interpreter."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")


def share_out(
    work: Callable[[Part], None], parts: Iterable[Part], threads: int | None = None
) -> None:
    """Call ``work`` on every part, whichever thread is free taking the next one.

    ``threads`` None: as many as torch may use.
    """
    threads = threads or torch.get_num_threads()
    if threads == 1:
        for part in parts:
            work(part)
    else:
        # The list raises what a thread raised.
        list(_pool(threads, os.getpid()).map(work, parts))


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """A fork has none of its parent's threads, so every process has pools of its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"kernels-{process}")
