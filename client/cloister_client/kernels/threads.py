"""Work shared out to threads, as many as torch may use or the caller says.

Kernels hold no lock of the interpreter.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")


def share_out(
    work: Callable[[Part], None], parts: Iterable[Part], threads: int | None = None
) -> None:
    """Call ``work`` on every part, whichever thread is free taking the next one; this one too.

    ``threads`` None: as many as torch may use.
    """
    # A list's iterator gives each part to one thread, whoever asks.
    waiting = iter(list(parts))

    def take_turns() -> None:
        for part in waiting:
            work(part)

    others = (threads or torch.get_num_threads()) - 1
    helping = [_pool(others, os.getpid()).submit(take_turns) for _ in range(others)]
    try:
        take_turns()
    finally:
        # Nobody may write any more into what the caller holds.
        wait(helping)
    for helper in helping:
        helper.result()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """A fork has none of its parent's threads, so every process has pools of its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"kernels-{process}")
