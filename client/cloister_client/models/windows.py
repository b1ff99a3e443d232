"""Cutting histories into windows, and laying windows of unequal length out as rows."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cloister_shared.plan import LocalTraining
from cloister_shared.privacy.noise import NoiseSource, uniform

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """R stretches of concatenated histories, the longest first.

    ``learners``, ``starts``, ``lengths`` (R,) int64: whose, from where in the concatenation, how
    many answers; ``weights`` (R,) float64: what an answer's loss is multiplied with, 1/(answers in
    all of the learner's windows) or one over the public divisor.
    """

    learners: Ints
    starts: Ints
    lengths: Ints
    weights: NDArray[np.float64]

    def rows(self, values: NDArray[np.generic]) -> torch.Tensor:
        """(R, T, ...) the windows' part of ``values`` (answers, ...), padded with zeros."""
        return self.spread(values[np.repeat(self.starts, self.lengths) + self._places()])

    def spread(self, values: NDArray[np.generic]) -> torch.Tensor:
        """(R, T, ...) ``values`` (windows' answers, ...) as rows; answers first in memory."""
        count, longest = len(self.lengths), int(self.lengths.max(initial=0))
        table = np.zeros((longest, count, *values.shape[1:]), values.dtype)
        table[self._places(), np.repeat(np.arange(count), self.lengths)] = values
        return torch.from_numpy(table).transpose(0, 1)

    def _places(self) -> Ints:
        """(answers in the windows,) place of each in its row."""
        ends = np.cumsum(self.lengths)
        return np.arange(self.lengths.sum()) - np.repeat(ends - self.lengths, self.lengths)


def windows_of(lengths: Ints, local: LocalTraining, noise: NoiseSource) -> Windows:
    """The windows by which histories of ``lengths`` (learners,) are trained on in one step."""
    counts = -(-lengths // local.window)
    learners = np.repeat(np.arange(len(lengths)), counts)
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    if local.max_windows is not None and counts.max(initial=0) > local.max_windows:
        kept = _drawn(learners, counts, local.max_windows, noise)
        learners, places = learners[kept], places[kept]
    starts = places * local.window
    cut = np.minimum(lengths[learners] - starts, local.window)
    return _windows(lengths, learners, starts, cut, local.loss_divisor)


def all_of(lengths: Ints) -> Windows:
    """Every history of at least one answer as one window."""
    learners = np.flatnonzero(lengths)
    return _windows(lengths, learners, np.zeros_like(learners), lengths[learners], None)


def window_count(length: int, local: LocalTraining) -> int:
    """How many windows of a history one step uses."""
    windows = -(-length // local.window)
    return windows if local.max_windows is None else min(windows, local.max_windows)


def _windows(
    histories: Ints, learners: Ints, starts: Ints, lengths: Ints, divisor: float | None
) -> Windows:
    order = np.argsort(-lengths, kind="stable")
    answers = np.bincount(learners, weights=lengths, minlength=len(histories))
    begins = np.cumsum(histories) - histories
    weights = 1 / (answers[learners[order]] if divisor is None else np.full(len(order), divisor))
    return Windows(learners[order], (begins[learners] + starts)[order], lengths[order], weights)


def _drawn(learners: Ints, counts: Ints, most: int, noise: NoiseSource) -> NDArray[np.bool_]:
    """Which windows are used: of each learner's, ``most`` drawn without replacement."""
    lots = uniform(noise, len(learners))
    order = np.lexsort((lots, learners))
    rank = np.arange(len(learners)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = np.zeros(len(learners), dtype=bool)
    kept[order[rank < most]] = True
    return kept
