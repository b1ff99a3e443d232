"""Histories, the unit of privacy, and the protocol through which training sees them."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cloister_shared.curriculum import Curriculum
from cloister_shared.errors import DataError
from cloister_shared.privacy.ledger_format import Role

_LOG = logging.getLogger(__name__)

Purpose = Literal["serve", "train", "evaluate", "experiment", "audit"]


@dataclass(frozen=True, slots=True)
class Interaction:
    """One graded answer as an LMS tells it; ids are the LMS's and the curriculum's.

    ``skills`` empty means the skills that the curriculum gives the item. ``when`` is in seconds
    since 1970 (UTC), or only a position where the source has no clock; ``key`` tells two answers
    apart that are otherwise equal, and is the same when the same file is read again. ``line`` is
    where it stands in a file, for errors only. ``group`` is the learner's, None where the source
    does not say.
    """

    learner: str
    item: str
    correct: bool
    when: float
    key: str
    skills: tuple[str, ...] = ()
    line: int | None = field(default=None, compare=False)
    group: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """All n interactions of one learner, in order.

    ``items`` (n,) int32 item positions; ``skills`` (n, m) int32 skill positions padded with -1;
    ``correct`` (n,) float32 of 0 and 1; ``when`` (n,) float64 seconds.
    """

    items: NDArray[np.int32]
    skills: NDArray[np.int32]
    correct: NDArray[np.float32]
    when: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, part: slice) -> "History":
        return History(self.items[part], self.skills[part], self.correct[part], self.when[part])

    @classmethod
    def concatenate(cls, histories: Sequence["History"]) -> "History":
        """All interactions of ``histories``, one learner after the other."""
        parts = histories or [cls.empty()]
        most = max(part.skills.shape[1] for part in parts)
        return cls(
            np.concatenate([part.items for part in parts]),
            np.concatenate([_padded(part.skills, most) for part in parts]),
            np.concatenate([part.correct for part in parts]),
            np.concatenate([part.when for part in parts]),
        )

    @classmethod
    def empty(cls) -> "History":
        """That of a learner who has not answered yet."""
        return cls(
            np.zeros(0, np.int32), np.zeros((0, 1), np.int32), np.zeros(0, np.float32), np.zeros(0)
        )

    @classmethod
    def from_interactions(
        cls, interactions: Iterable[Interaction], curriculum: Curriculum
    ) -> "History":
        """Look ids up in the curriculum; an unknown item or skill is a ``DataError``."""
        rows = list(interactions)
        items = [_item_position(curriculum, row) for row in rows]
        skills = [
            _skill_positions(curriculum, row, item) for row, item in zip(rows, items, strict=True)
        ]
        table = np.full((len(rows), max(map(len, skills), default=1)), -1, dtype=np.int32)
        for position, numbers in enumerate(skills):
            table[position, : len(numbers)] = numbers
        return cls(
            items=np.array(items, dtype=np.int32),
            skills=table,
            correct=np.array([row.correct for row in rows], dtype=np.float32),
            when=np.array([row.when for row in rows], dtype=np.float64),
        )


class HistorySource(Protocol):
    """Where training and evaluation get histories: the node's store, or memory."""

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        """Keys of those eligible for ``purpose``, in a stable order.

        ``train`` gives learners of the train role, ``evaluate`` of the evaluation role;
        ``cohorts`` None means all.
        """

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        """Histories of ``learners``, in that order; one may be empty."""

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        """The group of each of ``learners``, by which figures are told apart; None for none."""


@dataclass(frozen=True)
class MemoryHistorySource:
    """A source in memory, for simulations and tests; each learner's role is given."""

    histories: Mapping[str, History]
    roles: Mapping[str, Role] = field(default_factory=dict)
    cohorts: Mapping[str, str] = field(default_factory=dict)
    groups_of: Mapping[str, str] = field(default_factory=dict)

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        """Learners whose role fits; the default role is train, the default cohort ``all``."""
        wanted: dict[str, Role] = {"train": "train", "evaluate": "evaluation"}
        role = wanted.get(purpose)
        return [
            learner
            for learner in self.histories
            if role in (None, self.roles.get(learner, "train"))
            and (cohorts is None or self.cohorts.get(learner, "all") in cohorts)
        ]

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        """Histories as they were given."""
        return [self.histories[learner] for learner in learners]

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        """Groups as they were given; the default is none."""
        return [self.groups_of.get(learner) for learner in learners]


@dataclass(frozen=True)
class SilentSource:
    """Another source, in which a learner whose records cannot be used has an empty history.

    What is made of it is sent all the same: a refusal would tell that such a learner is there.
    Only the node's own log says so.
    """

    source: HistorySource

    def learners(self, purpose: Purpose, cohorts: Collection[str] | None = None) -> Sequence[str]:
        """The source's; nobody if they cannot be listed."""
        try:
            return self.source.learners(purpose, cohorts)
        except DataError:
            _LOG.error("the learners could not be listed: the round uses nobody's records")
            return []

    def load(self, learners: Sequence[str], purpose: Purpose) -> list[History]:
        """The source's; an empty one for each learner of whom it raises ``DataError``."""
        try:
            return self.source.load(learners, purpose)
        except DataError:
            if len(learners) > 1:
                return [history for one in learners for history in self.load([one], purpose)]
            _LOG.error("a learner's records cannot be used: the round leaves them out")
            return [History.empty()]

    def groups(self, learners: Sequence[str], purpose: Purpose) -> list[str | None]:
        """The source's."""
        return self.source.groups(learners, purpose)


def lengths_of(histories: Sequence[History]) -> NDArray[np.int64]:
    """(learners,) how many interactions each history has."""
    return np.array([len(history) for history in histories], dtype=np.int64)


def _padded(skills: NDArray[np.int32], columns: int) -> NDArray[np.int32]:
    missing = columns - skills.shape[1]
    return np.pad(skills, ((0, 0), (0, missing)), constant_values=-1) if missing else skills


def not_in_curriculum(what: str, curriculum: Curriculum) -> str:
    """What is said of an unknown item or skill; never its id: it may be a misplaced learner's."""
    return f"the {what} is not in the curriculum {curriculum.name!r}"


def _item_position(curriculum: Curriculum, answer: Interaction) -> int:
    if answer.item not in curriculum.item_index:
        raise DataError(_place(answer) + not_in_curriculum("item", curriculum))
    return curriculum.item_index[answer.item]


def _skill_positions(curriculum: Curriculum, answer: Interaction, item: int) -> list[int]:
    """The answer's own skills, each once, else those of its item."""
    skills = dict.fromkeys(answer.skills) or curriculum.items[item].skills
    if not curriculum.skill_index.keys() >= set(skills):
        raise DataError(_place(answer) + not_in_curriculum("skill", curriculum))
    return [curriculum.skill_index[skill] for skill in skills]


def _place(answer: Interaction) -> str:
    return "" if answer.line is None else f"line {answer.line}: "
