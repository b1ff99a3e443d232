"""Which exercises come next: those in the zone where practice pays, skills interleaved.

Interleaved exercises are remembered better than blocks of one skill (Rohrer and Taylor, "The
shuffling of mathematics problems improves learning", Instructional Science 35, 2007).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.personalization.zone import LOWER, TARGET, UPPER
from cloister_shared.curriculum import Curriculum

JUST_ANSWERED = 5

Floats = NDArray[np.float32]


class Practice:
    """The catalogue's exercises, ready to be ordered for any learner."""

    def __init__(self, curriculum: Curriculum) -> None:
        self._skills = len(curriculum.skills)
        self._prerequisites = _prerequisites(curriculum)
        # Items that need the same skills are one group and take turns with other groups.
        needed = np.sort(curriculum.item_skills, axis=1)
        _, group = np.unique(needed, axis=0, return_inverse=True)
        self._group = group.reshape(-1)

    def prerequisites(self, item: int) -> NDArray[np.int32]:
        """Skill positions that ``item`` builds on."""
        row = self._prerequisites[item]
        before: NDArray[np.int32] = row[row < self._skills]
        return before

    def choose(
        self, history: History, mastery: Floats, success: Floats, count: int
    ) -> NDArray[np.int64]:
        """At most ``count`` item positions, the best first; ties go by the catalogue's order.

        Only items whose prerequisites are known well enough; what was just answered comes last;
        items in the zone come before others; of each group of skills the least practised item
        comes first, then the nearest to the target; groups alternate, the nearest leading.
        """
        ready = np.flatnonzero(self._is_ready(mastery))
        just = np.isin(ready, history.items[-JUST_ANSWERED:])
        times = np.bincount(history.items, minlength=len(success))[ready]
        chance = success[ready]
        outside = (chance < LOWER) | (chance > UPPER)
        distance = np.abs(chance - np.float32(TARGET))
        turn = _turns(self._group[ready], (distance, times, outside, just))
        return ready[np.lexsort((ready, distance, turn, outside, just))[:count]]

    def _is_ready(self, mastery: Floats) -> NDArray[np.bool_]:
        known = np.append(mastery, np.float32(1))
        ready: NDArray[np.bool_] = np.all(known[self._prerequisites] >= LOWER, axis=1)
        return ready


def _turns(group: NDArray[np.int64], keys: tuple[NDArray[Any], ...]) -> NDArray[np.int64]:
    """Each item's turn within its group, from 0, in ascending order of ``keys``, the last first."""
    order = np.lexsort((*keys, group))
    _, start, size = np.unique(group[order], return_index=True, return_counts=True)
    turns = np.empty(len(group), dtype=np.int64)
    turns[order] = np.arange(len(group)) - np.repeat(start, size)
    return turns


def _prerequisites(curriculum: Curriculum) -> NDArray[np.int32]:
    """(items, widest) positions of the skills before an item's own, padded with their number."""
    rows = []
    for item in curriculum.items:
        before = {
            name
            for skill in item.skills
            for name in curriculum.skills[curriculum.skill_index[skill]].prerequisites
        }
        rows.append(sorted(curriculum.skill_index[name] for name in before - set(item.skills)))
    width = max(map(len, rows))
    padding = len(curriculum.skills)
    return np.array([row + [padding] * (width - len(row)) for row in rows], dtype=np.int32)
