"""From positions and probabilities to what a teacher reads: names, levels, reasons."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloister_client.histories import History
from cloister_client.personalization.practice import Practice
from cloister_client.personalization.ranker import Ranker
from cloister_client.personalization.reasons import (
    builds_on_reason,
    follows_reason,
    mastery_reason,
    popular_reason,
    practice_reason,
)
from cloister_client.personalization.results import SkillMastery, Suggestion
from cloister_client.personalization.zone import LOWER, level
from cloister_shared.curriculum import Curriculum

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Knowledge:
    """A learner's answers and what the tracer makes of them: by skill (K,), by item (items,)."""

    history: History
    mastery: Floats
    success: Floats


class Wording:
    """Puts results about one learner into the curriculum's words."""

    def __init__(self, curriculum: Curriculum, practice: Practice) -> None:
        self._curriculum = curriculum
        self._practice = practice
        self._skill_names = [skill.name or skill.id for skill in curriculum.skills]

    def masteries(self, known: Knowledge, skills: Iterable[int]) -> tuple[SkillMastery, ...]:
        """What the learner knows of each of ``skills``."""
        answers = _answers_by_skill(known.history)
        return tuple(
            self._mastery(skill, float(known.mastery[skill]), answers, len(known.history))
            for skill in skills
        )

    def exercise(self, known: Knowledge, item: int, just_answered: bool) -> Suggestion:
        """An item to practise."""
        success = float(known.success[item])
        reason = practice_reason(success, len(known.history), just_answered)
        return self._suggestion(item, success, reason)

    def recommendation(
        self, history: History, known: Knowledge | None, ranker: Ranker, item: int
    ) -> Suggestion:
        """An item that the recommender ranks high; ``known`` is None without a tracer."""
        follows = self._follows(history, ranker, item)
        builds_on = self._builds_on(known, item) if known else None
        reason = "; ".join(filter(None, (follows, builds_on))) or popular_reason(len(history))
        return self._suggestion(item, float(known.success[item]) if known else None, reason)

    def _mastery(
        self, skill: int, probability: float, answers: Mapping[int, list[bool]], in_all: int
    ) -> SkillMastery:
        own = answers.get(skill, [])
        return SkillMastery(
            skill=self._curriculum.skills[skill].id,
            name=self._skill_names[skill],
            probability=probability,
            level=level(probability),
            answers=len(own),
            reason=mastery_reason(own, others=in_all),
        )

    def _suggestion(self, position: int, success: float | None, reason: str) -> Suggestion:
        item = self._curriculum.items[position]
        return Suggestion(
            item=item.id,
            title=self._title(position),
            text=item.text,
            format=item.format,
            skills=item.skills,
            success=success,
            reason=reason,
        )

    def _title(self, position: int) -> str:
        item = self._curriculum.items[position]
        return item.title or item.id

    def _follows(self, history: History, ranker: Ranker, item: int) -> str | None:
        """The one of the last items that lifts ``item`` most, if any does."""
        influences = ranker.influences(history.items, item)
        if not len(influences) or influences.max() <= 0:
            return None
        lag = int(influences.argmax())
        return follows_reason(self._title(int(history.items[-1 - lag])), is_latest=lag == 0)

    def _builds_on(self, known: Knowledge, item: int) -> str | None:
        """The prerequisite of ``item`` that is known best, if it is known well enough."""
        before = self._practice.prerequisites(item)
        if not len(before) or known.mastery[before].max() < LOWER:
            return None
        best = int(before[known.mastery[before].argmax()])
        return builds_on_reason(self._skill_names[best], float(known.mastery[best]))


def _answers_by_skill(history: History) -> dict[int, list[bool]]:
    """Right or wrong, in order, of each skill position that was answered."""
    answers: dict[int, list[bool]] = {}
    for skills, correct in zip(history.skills.tolist(), history.correct.tolist(), strict=True):
        for skill in skills:
            if skill >= 0:
                answers.setdefault(skill, []).append(correct > 0.5)
    return answers
