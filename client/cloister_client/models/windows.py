"""Cutting histories into windows, and padding arrays of unequal length."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource, uniform


def window_starts(length: int, local: LocalTraining, noise: NoiseSource) -> NDArray[np.int64]:
    """Starts of a history's windows: all of them, or ``max_windows`` drawn without replacement."""
    starts = np.arange(0, length, local.window)
    count = window_count(length, local)
    if len(starts) == count:
        return starts
    order = np.argsort(uniform(noise, len(starts)))
    return np.sort(starts[order[:count]])


def window_count(length: int, local: LocalTraining) -> int:
    """How many windows of a history one step uses."""
    windows = -(-length // local.window)
    return windows if local.max_windows is None else min(windows, local.max_windows)


def pad(arrays: Sequence[NDArray[np.generic]], fill: float) -> torch.Tensor:
    """Stack arrays along a new first axis, each axis filled up to the longest with ``fill``."""
    if not arrays:
        return torch.zeros((0, 0))
    longest = tuple(int(size) for size in np.max([array.shape for array in arrays], axis=0))
    table = np.full((len(arrays), *longest), fill, dtype=arrays[0].dtype)
    for row, array in zip(table, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return torch.from_numpy(table)
